use std::{
    convert::Infallible,
    future::{pending, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use prometheus::TextEncoder;
use tokio::time::timeout;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::s3::encode;

fn text(metrics: &Metrics) -> String {
    TextEncoder::new()
        .encode_to_string(&metrics.registry().gather())
        .unwrap()
}

fn request(record: &RequestRecord) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from("hello"));
    request.extensions_mut().insert(record.clone());
    request
}

#[tokio::test(start_paused = true)]
async fn both_bodies_are_counted_and_the_request_ends_with_the_second() {
    let metrics = Metrics::new().unwrap();
    let inner = service_fn(|request: Request<CountedBody<Full<Bytes>>>| async move {
        let record = request.extensions().get::<RequestRecord>().cloned().unwrap();
        record.set_operation("GetObject");
        let body = request.into_body();
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        Ok::<_, Infallible>(Response::new(encode::full(Bytes::from_static(b"goodbye"))))
    });
    let record = RequestRecord::default();
    let answer = layer(metrics.clone())
        .layer(inner)
        .oneshot(request(&record))
        .await
        .unwrap();
    assert_eq!(record.received_bytes(), 5);
    assert!(text(&metrics).contains("t2gate_requests_in_flight 1"));
    answer.into_body().collect().await.unwrap();
    let text = text(&metrics);
    for line in [
        "t2gate_requests_in_flight 0",
        "t2gate_requests_total{operation=\"GetObject\",status=\"200\"} 1",
        "t2gate_received_bytes_total 5",
        "t2gate_sent_bytes_total 7",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_before_the_answer_is_counted_too() {
    let metrics = Metrics::new().unwrap();
    let inner = service_fn(|_: Request<CountedBody<Full<Bytes>>>| pending::<Result<_, Infallible>>());
    let record = RequestRecord::default();
    let call = layer(metrics.clone()).layer(inner).oneshot(request(&record));
    assert!(timeout(Duration::from_secs(1), call).await.is_err());
    let text = text(&metrics);
    assert!(
        text.contains("t2gate_requests_total{operation=\"Unknown\",status=\"aborted\"} 1"),
        "{text}"
    );
    assert!(text.contains("t2gate_requests_in_flight 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_an_error_of_the_gateway() {
    let metrics = Metrics::new().unwrap();
    let inner = service_fn(|_: Request<CountedBody<Full<Bytes>>>| {
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"some"))),
            Err("the disk is gone".into()),
        ];
        let body = ResponseBody::new(StreamBody::new(futures::stream::iter(frames)));
        ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let record = RequestRecord::default();
    let answer = layer(metrics.clone()).layer(inner).oneshot(request(&record)).await;
    answer.unwrap().into_body().collect().await.unwrap_err();
    let text = text(&metrics);
    for line in [
        "t2gate_requests_total{operation=\"Unknown\",status=\"200\"} 1",
        "t2gate_errors_total{code=\"InternalError\"} 1",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_has_ended() {
    let metrics = Metrics::new().unwrap();
    let inner = service_fn(|_: Request<CountedBody<Full<Bytes>>>| {
        ready(Ok::<_, Infallible>(Response::new(encode::full(Bytes::from_static(
            b"goodbye",
        )))))
    });
    let record = RequestRecord::default();
    drop(
        layer(metrics.clone())
            .layer(inner)
            .oneshot(request(&record))
            .await
            .unwrap(),
    );
    let text = text(&metrics);
    assert!(text.contains("t2gate_requests_in_flight 0"), "{text}");
    assert!(text.contains("t2gate_sent_bytes_total 0"), "{text}");
}
