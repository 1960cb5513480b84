//! `[listen]`: where the gateway is reached.

use std::net::SocketAddr;

use serde::Deserialize;

use super::fault::Faults;

/// Where the gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// S3 over TLS.
    pub address: SocketAddr,
    /// Health and metrics, in plain HTTP: not for the world.
    pub admin_address: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawListen {
    pub(super) address: String,
    pub(super) admin_address: String,
}

impl Default for RawListen {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8443".to_owned(),
            admin_address: "127.0.0.1:8444".to_owned(),
        }
    }
}

impl RawListen {
    pub(super) fn check(self, faults: &mut Faults) -> Option<Listen> {
        let mut socket = |key, text: &str| {
            faults.expect(
                key,
                text,
                "an IP address and a port such as 127.0.0.1:8443",
                text.parse::<SocketAddr>().ok(),
            )
        };
        let (address, admin_address) = (
            socket("address", &self.address),
            socket("admin_address", &self.admin_address),
        );
        let (address, admin_address) = (address?, admin_address?);
        if address == admin_address && address.port() != 0 {
            faults.add("admin_address", "must not be the same as listen.address");
            return None;
        }
        Some(Listen { address, admin_address })
    }
}
