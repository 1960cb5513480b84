//! What a store's answer says beside what opendal tells of it: its status, and which version it is about. A delete's
//! answer names the delete marker that it has made; nothing else tells that for certain.

use std::cell::Cell;

use http::{HeaderMap, Request, Response};
use opendal::{
    Buffer, HttpBody, HttpTransport, HttpTransporter, OperationContext, Result,
    raw::{Layer, Servicer},
};

use crate::VersionId;

/// What leads the names of headers, by the services that have versions.
const LEADS: [&str; 3] = ["x-amz-", "x-oss-", "x-cos-"];

tokio::task_local! {
    static HEARD: Cell<Answer>;
}

/// The last answer of the store in a call. Nothing in it where there was none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Option<VersionId>,
    /// It is about a delete marker.
    pub(super) is_marker: bool,
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
        }
    }
}

/// Does `call`, and gives the last answer to it too. The call must not leave its task.
pub(super) async fn heard<T>(call: impl Future<Output = T>) -> (T, Answer) {
    HEARD
        .scope(Cell::default(), async {
            let outcome = call.await;
            (outcome, HEARD.with(Cell::take))
        })
        .await
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
        let response = self.0.fetch(request).await?;
        // Nobody has asked, most often.
        let told = || Answer::of(response.status().as_u16(), response.headers());
        HEARD.try_with(|heard| heard.set(told())).ok();
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
        let say = |status| HEARD.try_with(|heard| heard.set(Answer::of(status, &HeaderMap::new())));
        assert!(say(200).is_err());
        let ((), answer) = heard(async {
            say(503).unwrap();
            say(404).unwrap();
        })
        .await;
        assert_eq!(answer.status, 404);
        let ((), answer) = heard(async {}).await;
        assert_eq!(answer, Answer::default());
    }
}
