use http::StatusCode;
use prometheus::TextEncoder;

use super::*;
use crate::s3::S3ErrorCode;

fn text(metrics: &Metrics) -> String {
    TextEncoder::new()
        .encode_to_string(&metrics.registry().gather())
        .unwrap()
}

#[track_caller]
fn assert_line(metrics: &Metrics, line: &str) {
    let text = text(metrics);
    assert!(text.lines().any(|known| known == line), "{line}\nis not in\n{text}");
}

/// One of everything.
fn busy() -> Arc<Metrics> {
    let metrics = Metrics::new().unwrap();
    let stats = Arc::new(ConnectionStats::default());
    stats.accepted.store(7, Relaxed);
    stats.open.store(2, Relaxed);
    stats.plain_text.store(3, Relaxed);
    metrics.watch_connections(&stats).unwrap();
    metrics.watch_memory(&MemoryBudget::new(1 << 20)).unwrap();
    let record = RequestRecord::default();
    record.set_operation("PutObject");
    record.set_code(S3ErrorCode::RateLimited);
    record.set_rate_limited("write");
    let mut open = metrics.request(record);
    open.answered(StatusCode::TOO_MANY_REQUESTS, Duration::from_millis(3));
    open.ended(Duration::from_secs(2));
    let record = RequestRecord::default();
    record.set_authentication_failure("unknown_key");
    record.set_code(S3ErrorCode::InvalidAccessKeyId);
    drop(metrics.request(record));
    let observer = metrics.backend_observer("fs");
    observer.observe("put_object", CallOutcome::Failed, Duration::from_millis(20));
    let observer = metrics.store_observer("cloud", "s3");
    observer.call("stat", StoreCallOutcome::Denied, Duration::from_millis(20));
    observer.bytes("write", 1000);
    observer.bytes("write", 200);
    observer.retry("read");
    metrics
}

#[test]
fn a_request_is_counted_once_when_it_ends() {
    let metrics = busy();
    for line in [
        "t2gate_requests_total{operation=\"PutObject\",status=\"429\"} 1",
        "t2gate_requests_total{operation=\"Unknown\",status=\"aborted\"} 1",
        "t2gate_errors_total{code=\"SlowDown\"} 1",
        "t2gate_errors_total{code=\"InvalidAccessKeyId\"} 1",
        "t2gate_rate_limited_total{kind=\"write\"} 1",
        "t2gate_rate_limited_total{kind=\"address\"} 0",
        "t2gate_authentication_failures_total{reason=\"unknown_key\"} 1",
        "t2gate_request_first_byte_seconds_count{operation=\"PutObject\"} 1",
        "t2gate_request_first_byte_seconds_bucket{operation=\"PutObject\",le=\"0.0025\"} 0",
        "t2gate_request_first_byte_seconds_bucket{operation=\"PutObject\",le=\"0.005\"} 1",
        "t2gate_request_duration_seconds_sum{operation=\"PutObject\"} 2",
        "t2gate_requests_in_flight 0",
    ] {
        assert_line(&metrics, line);
    }
}

#[test]
fn a_request_is_in_flight_until_it_ends() {
    let metrics = Metrics::new().unwrap();
    let open = metrics.request(RequestRecord::default());
    assert_line(&metrics, "t2gate_requests_in_flight 1");
    drop(open);
    assert_line(&metrics, "t2gate_requests_in_flight 0");
}

#[test]
fn what_is_counted_elsewhere_is_read_when_it_is_asked_for() {
    let metrics = busy();
    for line in [
        "t2gate_connections_accepted_total 7",
        "t2gate_connections 2",
        "t2gate_tls_handshake_failures_total{reason=\"plain_text\"} 3",
        "t2gate_tls_handshake_failures_total{reason=\"handshake\"} 0",
        "t2gate_memory_budget_bytes 1048576",
        "t2gate_memory_budget_used_bytes 0",
        "t2gate_backend_call_seconds_count{backend=\"fs\",operation=\"put_object\",result=\"failed\"} 1",
        "t2gate_store_call_seconds_count{backend=\"cloud\",operation=\"stat\",result=\"denied\",service=\"s3\"} 1",
        "t2gate_store_bytes_total{backend=\"cloud\",operation=\"write\",service=\"s3\"} 1200",
        "t2gate_store_retries_total{backend=\"cloud\",operation=\"read\",service=\"s3\"} 1",
        concat!("t2gate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert_line(&metrics, line);
    }
    assert!(text(&metrics).contains("\nprocess_resident_memory_bytes "));
}

#[test]
fn two_gateways_in_one_process_count_apart() {
    let (one, two) = (busy(), Metrics::new().unwrap());
    assert_line(&one, "t2gate_rate_limited_total{kind=\"write\"} 1");
    assert_line(&two, "t2gate_rate_limited_total{kind=\"write\"} 0");
}
