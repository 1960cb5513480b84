//! One kind of load: what is stored before, what is repeated, on how many connections and for how long.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{client::Client, gateway::Gateway, report::Report};

const BUCKET: &str = "/load";
/// Objects of this size and more are overwritten in turn, so that a run does not fill the disk.
const LARGE: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Put,
    Get,
    List { keys: usize },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    operation: Operation,
    /// Bytes of each object.
    size: usize,
    connections: usize,
    /// Every connection does at least one operation, and begins none after this.
    time: Duration,
}

impl Scenario {
    pub(crate) fn new(name: &'static str, operation: Operation, size: usize, connections: usize, seconds: f64) -> Self {
        Self {
            name,
            operation,
            size,
            connections,
            time: Duration::from_secs_f64(seconds),
        }
    }

    pub(crate) async fn run(self, root: &Path) -> Result<Report> {
        let directory = tempfile::tempdir_in(root)?;
        let data = directory.path().join("data");
        let body = pattern(self.size);
        self.prepare(&Gateway::start(&data)?, &body).await?;

        let gateway = Gateway::start(&data)?;
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(Client::connect(&gateway).await?);
        }
        let cpu_before = gateway.cpu()?;
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for (connection, client) in clients.into_iter().enumerate() {
            running.spawn(self.repeat(client, connection, body.clone(), begun + self.time));
        }
        let mut latencies = Vec::new();
        while let Some(done) = running.join_next().await {
            latencies.extend(done??);
        }
        let elapsed = begun.elapsed();
        let cpu = gateway.cpu()?.saturating_sub(cpu_before);
        Ok(Report::new(
            self.name,
            self.size,
            elapsed,
            latencies,
            cpu,
            gateway.peak_mib()?,
        ))
    }

    /// Makes the bucket, and stores what is to be read.
    async fn prepare(&self, gateway: &Gateway, body: &Bytes) -> Result<()> {
        let mut client = Client::connect(gateway).await?;
        client.put(BUCKET, Bytes::new()).await?;
        let keys = match self.operation {
            Operation::Put => 0,
            Operation::Get => self.connections,
            Operation::List { keys } => keys,
        };
        for key in 0..keys {
            client.put(&format!("{BUCKET}/{key:06}"), body.clone()).await?;
        }
        Ok(())
    }

    /// One connection's share: how long each of its operations took.
    async fn repeat(self, mut client: Client, connection: usize, body: Bytes, end: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        loop {
            let begun = Instant::now();
            match self.operation {
                Operation::Put => {
                    let name = if self.size >= LARGE {
                        latencies.len() % 2
                    } else {
                        latencies.len()
                    };
                    let path = format!("{BUCKET}/{connection}/{name}");
                    client.put(&path, body.clone()).await?;
                }
                Operation::Get => {
                    let size = client.get(&format!("{BUCKET}/{connection:06}"), "").await?;
                    ensure!(size == self.size, "{size} bytes came back");
                }
                Operation::List { .. } => {
                    client.get(BUCKET, "list-type=2").await?;
                }
            }
            latencies.push(begun.elapsed());
            if Instant::now() >= end {
                return Ok(latencies);
            }
        }
    }
}

/// Bytes that neither repeat soon nor compress (xorshift).
pub(crate) fn pattern(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}
