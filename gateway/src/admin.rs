//! The second listener: /metrics, /healthz, /readyz.
