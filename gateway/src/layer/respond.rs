//! Errors become responses here, and only here.

mod early;

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    request,
};
use http_body::Body;
use http_body_util::BodyExt as _;
use tower::{Layer, Service};
use tracing::{Span, debug, error, info};

use super::{record::RequestRecord, request_id::RequestId};
use crate::{
    body::{BodyPace, BoxBody, RequestBody},
    dialect::{Dialect, ErrorFormat},
    s3::{
        S3Error, S3ErrorCode,
        encode::{self, ResponseBody},
    },
};

/// A request with its body in a slot: see [`RequestBody`].
pub struct Received {
    pub parts: request::Parts,
    pub body: RequestBody,
    pub record: RequestRecord,
}

/// Without headers and query, in which signatures stand.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("method", &self.parts.method)
            .field("path", &self.parts.uri.path())
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct Respond<S> {
    inner: S,
    settings: Settings,
}

/// What answers depend on.
#[derive(Debug, Clone)]
pub struct Settings {
    pub dialect: Dialect,
    /// Sent in `x-amz-bucket-region`, from which clients find the region to sign for.
    pub region: HeaderValue,
    pub pace: BodyPace,
}

pub fn layer<S>(settings: Settings) -> impl Layer<S, Service = Respond<S>> + Clone {
    tower::layer::layer_fn(move |inner| Respond {
        inner,
        settings: settings.clone(),
    })
}

impl<S, B> Service<Request<B>> for Respond<S>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    S: Service<Received, Response = Response<ResponseBody>, Error = S3Error>,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The layers inside are always ready: they refuse by an answer, not by making the connection wait.
        drop(self.inner.poll_ready(cx));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let record = parts.extensions.get::<RequestRecord>().cloned().unwrap_or_default();
        let id = parts
            .extensions
            .get::<RequestId>()
            .map(ToString::to_string)
            .unwrap_or_default();
        let body = RequestBody::new(BoxBody::new(body.map_err(Into::into)), self.settings.pace);
        let method = parts.method.clone();
        let received = Received {
            parts,
            body: body.clone(),
            record: record.clone(),
        };
        let future = self.inner.call(received);
        let settings = self.settings.clone();
        Box::pin(async move {
            let failure = early::Failure {
                record: record.clone(),
                request_id: id.clone(),
                span: Span::current(),
            };
            let mut response = match early::answer(Box::pin(future), &body, failure).await {
                Ok(response) => response,
                Err(error) => {
                    record.set_code(error.code());
                    log(&error);
                    settings.refusal(&error, &method, &record, &id)
                }
            };
            // What follows on the connection is the rest of that body, of which nobody knows the end. The server goes on
            // reading for a while after the answer, so that the client sees that and not a reset.
            if body.discard() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

impl Settings {
    fn refusal(&self, error: &S3Error, method: &Method, record: &RequestRecord, id: &str) -> Response<ResponseBody> {
        let status = self.dialect.status(error);
        let format = self.dialect.error_format(error);
        let bodiless = *method == Method::HEAD || format == ErrorFormat::Empty;
        let (content_type, body) = match format {
            ErrorFormat::Json => {
                let message = format!("incident id {id}");
                let code = encode::json_code(error.code());
                ("application/json", encode::json_error(code, &message, status.as_u16()))
            }
            ErrorFormat::Xml | ErrorFormat::Empty => {
                let body = encode::xml_error(error, &record.resource(), id, id);
                ("application/xml", body)
            }
        };
        let mut response = Response::new(if bodiless { encode::empty() } else { encode::full(body) });
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if !bodiless {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("AWS4-HMAC-SHA256"));
        }
        if matches!(error.code(), S3ErrorCode::SlowDown | S3ErrorCode::ServiceUnavailable) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            headers.insert("x-amz-retry-after", HeaderValue::from_static("1000"));
        }
        if record.bucket().is_some() {
            headers.insert("x-amz-bucket-region", self.region.clone());
        }
        for (name, value) in error.headers() {
            headers.insert(name, value.clone());
        }
        response
    }
}

/// A failure is logged once, with all its causes. Refusals are the client's business.
pub(crate) fn log(error: &S3Error) {
    let causes = std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    if error.is_failure() {
        error!(code = error.code().as_str(), causes, "{}", error.message());
    } else if causes.is_empty() {
        debug!(code = error.code().as_str(), "{}", error.message());
    } else {
        info!(code = error.code().as_str(), causes, "{}", error.message());
    }
}
