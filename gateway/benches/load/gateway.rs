//! The gateway's process: started as `t2gate serve` is, and asked of the kernel what it used.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

pub(crate) const ACCESS_KEY_ID: &str = "T2LOAD0000000000001";
pub(crate) const SECRET_ACCESS_KEY: &str = "Load/Secret+Key/Of+The+Benchmark/0001";

/// The unit of the times in `/proc/PID/stat`: Linux tells user space hundredths of a second on every architecture.
const TICK: Duration = Duration::from_millis(10);
const START: Duration = Duration::from_secs(30);

/// A running gateway; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Gateway {
    /// Starts it, or another program named by `T2_GATEWAY`, over `data` and waits until it is ready. Its log goes to `data`'s sibling `gateway.log`.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        let address = free_address()?;
        let admin = free_address()?;
        let log = fs::File::create(data.with_file_name("gateway.log"))?;
        let process = Command::new(env::var_os("T2_GATEWAY").unwrap_or_else(|| env!("CARGO_BIN_EXE_t2gate").into()))
            .args([
                "serve",
                "--listen",
                &address.to_string(),
                "--admin-listen",
                &admin.to_string(),
                "--data",
            ])
            .arg(data)
            .env("T2GATE_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("T2GATE_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            // What is measured is not what one client is allowed.
            .envs(["PER_ADDRESS", "PER_KEY", "READ", "WRITE", "LIST"].map(|limit| {
                (format!("T2GATE_RATE_LIMIT__{limit}__RATE"), "0")
            }))
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .context("starting the gateway")?;
        let mut process = Running(Some(process));
        let begun = Instant::now();
        while !is_ready(admin) {
            let exited = process.0.as_mut().and_then(|child| child.try_wait().ok().flatten());
            ensure!(exited.is_none(), "the gateway ended at once, see gateway.log");
            ensure!(
                begun.elapsed() < START,
                "the gateway was not ready in time, see gateway.log"
            );
            sleep(Duration::from_millis(20));
        }
        let tls = trust(&data.join(".t2/tls/ca.pem"))?;
        let process = process.0.take().context("the process was there")?;
        Ok(Self { process, address, tls })
    }

    /// Processor time used so far, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The second field is the name in brackets, which may hold anything; utime and stime are the 14th and 15th.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let mut ticks = || -> Result<u32> { Ok(fields.next().context("/proc/PID/stat")?.parse()?) };
        Ok(TICK * (ticks()? + ticks()?))
    }

    /// The most physical memory that it has held, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("VmHWM")?
            .parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Kills the process when starting it fails half-way.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            end(process);
        }
    }
}

fn end(process: &mut Child) {
    // It may have ended by itself; then there is nothing left to do.
    process.kill().ok();
    process.wait().ok();
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect(admin)?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}

/// Trusts the gateway's own authority and nothing else.
fn trust(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).context("the gateway's ca.pem")?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
