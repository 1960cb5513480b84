//! `[s3]`: what clients see of the protocol.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    fault::Faults,
    raw::{List, Switch, Whole},
};
use crate::dialect::Dialect;

/// The protocol's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    pub dialect: Dialect,
    /// What GetBucketLocation says, and credential scopes name.
    pub region: Box<str>,
    /// Accept a credential scope of any region.
    pub any_region: bool,
    /// Hosts under which `<bucket>.<base domain>` is virtual-host style: lower case, no port.
    pub base_domains: Vec<Box<str>>,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Unless the account says otherwise.
    pub max_buckets_per_account: u32,
    /// Accept any canned ACL on an object, without effect.
    pub ignore_object_acl: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawS3 {
    pub(super) dialect: String,
    pub(super) region: String,
    pub(super) any_region: Switch,
    pub(super) base_domains: List,
    pub(super) trusted_proxies: List,
    pub(super) max_buckets_per_account: Whole,
    pub(super) ignore_object_acl: Switch,
}

impl Default for RawS3 {
    fn default() -> Self {
        Self {
            dialect: "t2".to_owned(),
            region: "us-east-1".to_owned(),
            any_region: Switch(false),
            base_domains: List::of(&["s3.localhost"]),
            trusted_proxies: List::default(),
            max_buckets_per_account: Whole(100),
            ignore_object_acl: Switch(false),
        }
    }
}

impl RawS3 {
    pub(super) fn check(self, faults: &mut Faults) -> Option<S3> {
        let dialect = match self.dialect.as_str() {
            "t2" => Some(Dialect::T2),
            "aws" => Some(Dialect::Aws),
            other => faults.expect("dialect", other, "\"t2\" or \"aws\"", None),
        };
        let region = &self.region;
        let valid = is_label(region).then(|| region.as_str().into());
        let region = faults.expect("region", region, "lower-case letters, digits and '-'", valid);

        let mut base_domains = Vec::new();
        for domain in &self.base_domains.0 {
            let valid = domain.len() <= 253 && domain.split('.').all(is_label);
            let expected = "a host name in lower case, without port";
            base_domains.extend(faults.expect("base_domains", domain, expected, valid.then(|| domain.as_str().into())));
        }
        let mut trusted_proxies = Vec::new();
        for text in &self.trusted_proxies.0 {
            let net = text
                .parse::<IpNet>()
                .ok()
                .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let expected = "an IP address or a network such as 10.0.0.0/8";
            trusted_proxies.extend(faults.expect("trusted_proxies", text, expected, net));
        }
        let max_buckets_per_account =
            faults.within("max_buckets_per_account", self.max_buckets_per_account.0, 0, 1_000_000);
        Some(S3 {
            dialect: dialect?,
            region: region?,
            any_region: self.any_region.0,
            base_domains,
            trusted_proxies,
            max_buckets_per_account: max_buckets_per_account?,
            ignore_object_acl: self.ignore_object_acl.0,
        })
    }
}

/// One label of a host name, in lower case (RFC 1123, section 2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
