//! An answer that begins before its outcome is known.
//!
//! To join an upload, or to copy, may take minutes, and whoever waits in silence for so long gives up: a client, or a
//! load balancer before it. So such an answer begins with 200 and goes on with a space now and then until the outcome is
//! there, as S3's does (API reference, CompleteMultipartUpload and CopyObject). A failure is then an `Error` document
//! under a 200, for which SDKs look; and what would have been said in headers, the version's id, is not said.

use std::{error::Error, pin::Pin, time::Duration};

use bytes::{Buf as _, Bytes};
use futures::stream;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::log;
use crate::{
    body::RequestBody,
    layer::record::RequestRecord,
    s3::{
        S3Error,
        encode::{self, ResponseBody},
    },
};

/// How long the client is left without a byte. Most wait for a minute, proxies too; a few for half of it.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// What every document begins with.
const PROLOG: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// An answer on its way.
pub(super) type Outcome = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, S3Error>> + Send>>;

/// What is said of a failure.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) record: RequestRecord,
    pub(super) request_id: String,
    /// The request's, in which its failure is logged.
    pub(super) span: Span,
}

/// Waits for the outcome. A request that is known to [take long](crate::s3::Operation::takes_long), and has come as a
/// whole, is answered after a while in any case.
pub(super) async fn answer(
    mut outcome: Outcome,
    body: &RequestBody,
    failure: Failure,
) -> Result<Response<ResponseBody>, S3Error> {
    loop {
        if let Ok(outcome) = timeout(SILENCE, &mut outcome).await {
            return outcome;
        }
        if failure.record.takes_long().is_some() && body.is_over() {
            return Ok(begun(outcome, failure));
        }
    }
}

fn begun(outcome: Outcome, failure: Failure) -> Response<ResponseBody> {
    // The body is polled outside of the request's span.
    let outcome: Outcome = Box::pin(outcome.in_current_span());
    let frames = stream::unfold(Said::Nothing(outcome, failure), Said::next);
    let mut response = Response::new(ResponseBody::new(StreamBody::new(frames)));
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    response
}

/// How far such an answer has come.
enum Said {
    Nothing(Outcome, Failure),
    Prolog(Outcome, Failure),
    /// What is left of the document.
    Document(ResponseBody),
}

type Next = Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>;

impl Said {
    async fn next(self) -> Option<(Next, Self)> {
        let mut document = match self {
            Self::Nothing(outcome, failure) => {
                let prolog = Frame::data(Bytes::from_static(PROLOG.as_bytes()));
                return Some((Ok(prolog), Self::Prolog(outcome, failure)));
            }
            Self::Prolog(mut outcome, failure) => match timeout(SILENCE, &mut outcome).await {
                Err(_) => {
                    let space = Frame::data(Bytes::from_static(b" "));
                    return Some((Ok(space), Self::Prolog(outcome, failure)));
                }
                Ok(outcome) => {
                    let mut document = failure.document(outcome);
                    let first = document.frame().await?;
                    return Some((first.map(without_prolog), Self::Document(document)));
                }
            },
            Self::Document(document) => document,
        };
        let frame = document.frame().await?;
        Some((frame, Self::Document(document)))
    }
}

impl Failure {
    fn document(self, outcome: Result<Response<ResponseBody>, S3Error>) -> ResponseBody {
        match outcome {
            Ok(response) => response.into_body(),
            Err(error) => {
                self.record.set_code(error.code());
                self.span.in_scope(|| log(&error));
                let (resource, id) = (self.record.resource(), &*self.request_id);
                encode::full(encode::xml_error(&error, &resource, id, id))
            }
        }
    }
}

/// The first frame of a document, whose declaration has been sent.
fn without_prolog(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            if data.starts_with(b"<?xml")
                && let Some(end) = data.iter().position(|byte| *byte == b'>')
            {
                data.advance(end + 1);
                data.advance(data.iter().take_while(|byte| **byte == b'\n').count());
            }
            Frame::data(data)
        }
        Err(frame) => frame,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use http::StatusCode;
    use http_body_util::Full;
    use t2gate_backends::BackendError;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        body::{BodyPace, BoxBody},
        s3::S3ErrorCode,
    };

    fn request(body: BoxBody) -> RequestBody {
        let pace = BodyPace {
            idle_timeout: Duration::MAX,
            grace: Duration::MAX,
            min_bytes_per_second: 0,
        };
        RequestBody::new(body, pace)
    }

    fn received() -> RequestBody {
        request(encode::empty())
    }

    fn failure(takes_long: bool) -> Failure {
        let record = RequestRecord::default();
        if takes_long {
            record.set_takes_long(());
        }
        record.set_bucket("bkt".into());
        Failure {
            record,
            request_id: "the-id".to_owned(),
            span: Span::none(),
        }
    }

    fn outcome_after(seconds: u64, outcome: Result<Response<ResponseBody>, S3Error>) -> Outcome {
        Box::pin(async move {
            sleep(Duration::from_secs(seconds)).await;
            outcome
        })
    }

    fn document(text: &'static str) -> Result<Response<ResponseBody>, S3Error> {
        let mut response = Response::new(encode::full(text));
        response
            .headers_mut()
            .insert("x-amz-version-id", HeaderValue::from_static("v"));
        Ok(response)
    }

    fn refused() -> S3Error {
        S3Error::from(BackendError::PreconditionFailed)
    }

    async fn text(response: Response<ResponseBody>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_that_comes_soon_is_the_answer() {
        let outcome = outcome_after(9, document("<?xml?><a/>"));
        let response = answer(outcome, &received(), failure(true)).await.unwrap();
        assert_eq!(response.headers()["x-amz-version-id"], "v");
        assert_eq!(text(response).await, "<?xml?><a/>");
        let outcome = outcome_after(9, Err(refused()));
        let error = answer(outcome, &received(), failure(true)).await.unwrap_err();
        assert_eq!(error.code(), S3ErrorCode::PreconditionFailed);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_long_is_kept_waiting() {
        let began = Instant::now();
        let whole = format!("{PROLOG}<a>text</a>");
        let outcome = outcome_after(45, document(Box::leak(whole.into_boxed_str())));
        let response = answer(outcome, &received(), failure(true)).await.unwrap();
        assert_eq!(began.elapsed(), SILENCE);
        assert_eq!(
            (response.status(), &response.headers()[CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("application/xml"))
        );
        assert_eq!(text(response).await, format!("{PROLOG}   <a>text</a>"));
        assert_eq!(began.elapsed(), Duration::from_secs(45));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_comes_late_is_told_in_the_document() {
        for error in [refused(), S3Error::internal("the reason")] {
            let failure = failure(true);
            let (record, code) = (failure.record.clone(), error.code());
            let response = answer(outcome_after(15, Err(error)), &received(), failure)
                .await
                .unwrap();
            assert_eq!(record.code(), None);
            let text = text(response).await;
            let begins = format!("{PROLOG}<Error><Code>{}</Code>", code.as_str());
            assert!(text.trim_start().starts_with(&begins), "{text}");
            assert!(
                text.contains("<Resource>bkt</Resource><RequestId>the-id</RequestId>"),
                "{text}"
            );
            assert!(!text.contains("the reason"), "{text}");
            assert_eq!(record.code(), Some(code));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_answered_when_there_is_an_answer() {
        let outcome = outcome_after(600, Err(refused()));
        assert!(answer(outcome, &received(), failure(false)).await.is_err());
        // Nobody has said yet that he has sent all: it may still be refused in words of its own.
        let unread = request(BoxBody::new(Full::from("<Complete").map_err(|never| match never {})));
        let outcome = outcome_after(600, Err(refused()));
        assert!(answer(outcome, &unread, failure(true)).await.is_err());
    }

    /// What the request has reserved hangs on what is awaited.
    #[tokio::test(start_paused = true)]
    async fn the_outcome_is_waited_for_until_the_answer_is_taken_or_dropped() {
        let held = Arc::new(());
        let gone = Arc::downgrade(&held);
        let outcome: Outcome = Box::pin(async move {
            let _held = held;
            pending().await
        });
        let mut response = answer(outcome, &received(), failure(true)).await.unwrap();
        for _ in 0..3 {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        assert!(gone.upgrade().is_some());
        drop(response);
        assert!(gone.upgrade().is_none());
    }
}
