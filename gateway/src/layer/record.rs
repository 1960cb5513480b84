//! What becomes known of a request as it goes through the layers, for the log line and the metrics at its end.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::s3::S3ErrorCode;

/// Shared between the outermost layers, which report, and the inner ones, which find out. Each field is set once.
#[derive(Debug, Clone, Default)]
pub struct RequestRecord(Arc<Fields>);

#[derive(Debug, Default)]
struct Fields {
    operation: OnceLock<&'static str>,
    bucket: OnceLock<Box<str>>,
    key: OnceLock<Box<str>>,
    access_key_id: OnceLock<Box<str>>,
    takes_long: OnceLock<()>,
    code: OnceLock<S3ErrorCode>,
    client: OnceLock<IpAddr>,
    rate_limited: OnceLock<&'static str>,
    authentication_failure: OnceLock<&'static str>,
    received_bytes: AtomicU64,
}

/// Declares a setter and a getter; the first value stays.
macro_rules! once {
    ($set:ident, $get:ident, $ty:ty, $out:ty, $map:expr) => {
        pub fn $set(&self, value: $ty) {
            // A second value would be a second opinion on the same request: the first holds.
            self.0.$get.get_or_init(|| value);
        }

        pub fn $get(&self) -> Option<$out> {
            self.0.$get.get().map($map)
        }
    };
}

impl RequestRecord {
    once!(set_operation, operation, &'static str, &'static str, |name| *name);
    once!(set_bucket, bucket, Box<str>, &str, |bucket| &**bucket);
    once!(set_key, key, Box<str>, &str, |key| &**key);
    once!(set_access_key_id, access_key_id, Box<str>, &str, |id| &**id);
    // To carry it out may take minutes.
    once!(set_takes_long, takes_long, (), (), |()| ());
    once!(set_code, code, S3ErrorCode, S3ErrorCode, |code| *code);
    // Who asks, as far as trusted proxies tell: not always the peer.
    once!(set_client, client, IpAddr, IpAddr, |client| *client);
    // Which limit the request was over: address, key, read, write, list.
    once!(set_rate_limited, rate_limited, &'static str, &'static str, |kind| *kind);
    // Why its credentials do not hold, of a fixed set of words.
    once!(
        set_authentication_failure,
        authentication_failure,
        &'static str,
        &'static str,
        |reason| *reason
    );

    /// Bytes of the request's body, as they came in.
    pub fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Relaxed)
    }

    pub(super) fn add_received_bytes(&self, bytes: u64) {
        self.0.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// `bucket` or `bucket/key`, as errors name what they are about.
    pub fn resource(&self) -> String {
        match (self.bucket(), self.key()) {
            (Some(bucket), Some(key)) => format!("{bucket}/{key}"),
            (Some(bucket), None) => bucket.into(),
            (None, _) => String::new(),
        }
    }
}
