//! What a store's answer says beside what opendal tells of it: its status, and which version it is about. A delete's
//! answer names the delete marker that it has made; nothing else tells that for certain. And whether a request was sent
//! again: then the answer may be about what the first of them did.

use std::cell::RefCell;

use http::{HeaderMap, Method, Request, Response, Uri};
use opendal::{
    Buffer, HttpBody, HttpTransport, HttpTransporter, OperationContext, Result,
    raw::{Layer, Servicer},
};

use crate::VersionId;

/// What leads the names of headers, by the services that have versions.
const LEADS: [&str; 3] = ["x-amz-", "x-oss-", "x-cos-"];

tokio::task_local! {
    static HEARD: RefCell<Heard>;
}

/// The last answer of the store in a call. Nothing in it where there was none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Option<VersionId>,
    /// It is about a delete marker.
    pub(super) is_marker: bool,
    /// A request was sent again, for the answer to it was lost, or told to try again.
    pub(super) repeated: bool,
}

#[derive(Default)]
struct Heard {
    answer: Answer,
    last: Option<(Method, Uri)>,
}

impl Heard {
    fn sends<T>(&mut self, request: &Request<T>) {
        let now = (request.method().clone(), request.uri().clone());
        self.answer.repeated |= self.last.as_ref() == Some(&now);
        self.last = Some(now);
    }

    fn hears(&mut self, status: u16, headers: &HeaderMap) {
        self.answer = Answer {
            repeated: self.answer.repeated,
            ..Answer::of(status, headers)
        };
    }
}

impl Answer {
    fn of(status: u16, headers: &HeaderMap) -> Self {
        let header = |name: &str| {
            let found = LEADS.iter().find_map(|lead| headers.get(format!("{lead}{name}")));
            found.and_then(|value| value.to_str().ok())
        };
        Self {
            status,
            version: header("version-id").and_then(|id| VersionId::parse(id).ok()),
            is_marker: header("delete-marker") == Some("true"),
            repeated: false,
        }
    }
}

/// Does `call`, and gives the last answer to it too. The call must not leave its task, and asks nothing twice by itself,
/// but for calls in it that are heard by themselves.
pub(super) fn heard<T>(call: impl Future<Output = T>) -> impl Future<Output = (T, Answer)> {
    // It would lie in what waits for it more than once.
    let call = Box::pin(call);
    async {
        let heard = HEARD.scope(RefCell::default(), async {
            let outcome = call.await;
            (outcome, HEARD.with(RefCell::take).answer)
        });
        let (outcome, answer) = heard.await;
        let pass_on = |outer: &RefCell<Heard>| outer.borrow_mut().answer.repeated |= answer.repeated;
        HEARD.try_with(pass_on).ok();
        (outcome, answer)
    }
}

/// What is under way is asked for again, by a request like the one before or by another.
pub(super) fn asked_again() {
    // Nobody asks, most often.
    HEARD.try_with(|heard| heard.borrow_mut().answer.repeated = true).ok();
}

/// Listens to the answers.
#[derive(Debug)]
pub(super) struct AnswerLayer;

impl Layer for AnswerLayer {
    fn apply_context(&self, _: Servicer, inner: OperationContext) -> OperationContext {
        let transport = HttpTransporter::new(Listening(inner.http_transport().clone()));
        inner.with_http_transport(transport)
    }
}

struct Listening(HttpTransporter);

impl HttpTransport for Listening {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        // Nobody asks, most often.
        HEARD.try_with(|heard| heard.borrow_mut().sends(&request)).ok();
        let response = self.0.fetch(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers());
        HEARD.try_with(|heard| heard.borrow_mut().hears(status, headers)).ok();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_version() {
        let answer = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            });
            Answer::of(204, &headers.collect())
        };
        for lead in ["x-amz", "x-oss", "x-cos"] {
            let (id, marker) = (format!("{lead}-version-id"), format!("{lead}-delete-marker"));
            let (id, marker): (&'static str, &'static str) = (id.leak(), marker.leak());
            let told = answer(&[(id, "a.B-_"), (marker, "true")]);
            assert_eq!(told.version, Some(VersionId::parse("a.B-_").unwrap()));
            assert!(told.is_marker && told.status == 204);
            assert!(!answer(&[(marker, "false")]).is_marker);
            // No client could be given it.
            assert_eq!(answer(&[(id, "a b")]).version, None);
        }
        assert_eq!(answer(&[]).version, None);
    }

    #[tokio::test]
    async fn who_does_not_ask_hears_nothing() {
        let say = |status| HEARD.try_with(|heard| heard.borrow_mut().hears(status, &HeaderMap::new()));
        assert!(say(200).is_err());
        let ((), answer) = heard(async {
            say(503).unwrap();
            say(404).unwrap();
        })
        .await;
        assert_eq!((answer.status, answer.repeated), (404, false));
        let ((), answer) = heard(async {}).await;
        assert_eq!(answer, Answer::default());
    }

    #[tokio::test]
    async fn what_was_sent_again_is_told() {
        let send = |method: &str, uri: &str| {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            HEARD.with(|heard| heard.borrow_mut().sends(&request));
        };
        let repeated = async |requests: &[(&str, &str)]| {
            let sent = heard(async { requests.iter().for_each(|(method, uri)| send(method, uri)) });
            sent.await.1.repeated
        };
        assert!(repeated(&[("PUT", "http://s/a"), ("PUT", "http://s/a")]).await);
        assert!(!repeated(&[("PUT", "http://s/a"), ("HEAD", "http://s/a")]).await);
        assert!(!repeated(&[("PUT", "http://s/a?partNumber=1"), ("PUT", "http://s/a?partNumber=2")]).await);
        // Also of a call within, but not for what another one asked.
        let twice = [("PUT", "http://s/a"); 2];
        assert!(heard(repeated(&twice)).await.1.repeated);
        let each = heard(async { repeated(&twice[..1]).await || repeated(&twice[1..]).await });
        assert!(!each.await.1.repeated);
    }
}
