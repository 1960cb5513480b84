//! The program as a person starts it: what it says, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use t2gate_backends::{
    BucketName, BucketSetting, Clock as _, FsBackend, FsOpenError, FsOptions, SystemClock, Versioned, VersioningStatus,
    conformance::Subject,
};

fn t2gate(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_t2gate"));
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("T2GATE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs to the end.
fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (code, _, complaint) = run_whole(directory, arguments);
    (code, complaint)
}

/// The same, with what it says on both of its outputs.
fn run_whole(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = t2gate(directory).args(arguments).output().unwrap();
    let [said, complaint] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.code(), said, complaint)
}

/// Where a gateway that serves writes its log.
const LOG: &str = "stderr";

/// A gateway that serves; killed when the test ends before it does.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    greeting: String,
}

impl Running {
    fn start(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [
            &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
            arguments,
        ]
        .concat();
        let mut command = t2gate(directory);
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.join(LOG)).unwrap());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self {
            child,
            output,
            greeting: String::new(),
        };
        // The keys come last.
        while !running.greeting.contains("  keys ") {
            assert_ne!(
                running.output.read_line(&mut running.greeting).unwrap(),
                0,
                "ended: {}",
                running.greeting
            );
        }
        running
    }

    fn admin(&self, path: &str) -> String {
        let address = self.greeting.split_once("http://").unwrap().1;
        let address: SocketAddr = address.split_whitespace().next().unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// SIGTERM; the exit code and all that it said.
    fn stop(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (code, format!("{}{rest}", self.greeting))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, as a rule.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_first_start_shows_the_key_once_and_the_second_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = Running::start(dir.path(), &[], &[]);
    assert!(first.admin("/healthz").starts_with("HTTP/1.1 200"));
    assert!(first.admin("/readyz").starts_with("HTTP/1.1 200"));
    let (code, said) = first.stop();
    assert_eq!(code, Some(0));
    let id = said
        .split_once("AWS_ACCESS_KEY_ID=")
        .expect(&said)
        .1
        .split_whitespace()
        .next()
        .unwrap();
    let secret = said
        .split_once("AWS_SECRET_ACCESS_KEY=")
        .expect(&said)
        .1
        .split_whitespace()
        .next()
        .unwrap();
    assert_eq!(secret.len(), 40);
    assert!(said.lines().count() <= 24, "more than one screen:\n{said}");
    let authority = dir.path().join("t2-data/.t2/tls/ca.pem");
    assert!(authority.exists() && said.contains("/t2-data/.t2/tls/ca.pem"), "{said}");

    // For whoever cannot read that file: it is in an image.
    let printed = t2gate(dir.path()).arg("authority").output().unwrap();
    assert!(printed.status.success());
    assert!(printed.stdout == fs::read(&authority).unwrap() && printed.stdout.starts_with(b"-----BEGIN CERTIFICATE"));

    let (code, said) = Running::start(dir.path(), &[], &[]).stop();
    assert_eq!(code, Some(0));
    assert!(said.contains(id) && said.contains("keys.toml"), "{said}");
    assert!(!said.contains(secret), "{said}");
}

#[test]
fn where_there_is_no_authority_of_its_own_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let printed = t2gate(dir.path())
        .args(["authority", "--data", "none"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert_eq!((printed.status.code(), printed.stdout.len()), (Some(1), 0));
    assert!(
        said.contains("none/.t2/tls/ca.pem, which the first start makes"),
        "{said}"
    );
    let printed = t2gate(dir.path())
        .arg("authority")
        .envs([("T2GATE_TLS__CERTIFICATE", "c.pem"), ("T2GATE_TLS__KEY", "k.pem")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert_eq!((printed.status.code(), printed.stdout.len()), (Some(1), 0));
    assert!(said.contains("c.pem: clients have to trust whoever made it"), "{said}");
}

#[test]
fn a_key_from_the_environment_is_neither_shown_nor_kept() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [
        ("T2GATE_ACCESS_KEY_ID", "1234567890"),
        ("T2GATE_SECRET_ACCESS_KEY", "00998877665544332211"),
    ];
    let (code, said) = Running::start(dir.path(), &["--data", "elsewhere", "--dialect", "aws"], &variables).stop();
    assert_eq!(code, Some(0));
    assert!(said.contains("dialect aws") && !said.contains("0099887766"), "{said}");
    assert!(!dir.path().join("elsewhere/.t2/keys.toml").exists());
    assert!(!dir.path().join("t2-data").exists());
}

#[test]
fn the_greeting_says_what_a_write_survives() {
    for (durability, said) in [
        ("power-safe", "survives a power cut"),
        ("process-safe", "NOT a power cut"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(dir.path(), &[], &[("T2GATE_BACKEND__DURABILITY", durability)]);
        let (code, output) = running.stop();
        assert_eq!(code, Some(0));
        assert!(output.contains(said), "{output}");
    }
}

#[test]
fn a_root_is_served_by_several_only_if_all_of_them_share_it() {
    let dir = tempfile::tempdir().unwrap();
    let shared = [("T2GATE_BACKEND__SHARED", "true")];
    let first = Running::start(dir.path(), &[], &shared);
    let second = Running::start(dir.path(), &[], &shared);
    let (code, said) = run(dir.path(), &["serve"]);
    assert!(code != Some(0) && said.contains("another process serves"), "{said}");
    assert_eq!(first.stop().0, Some(0));
    assert_eq!(second.stop().0, Some(0));
}

#[test]
fn the_greeting_says_what_becomes_of_what_is_overwritten() {
    for (dialect, said) in [
        ("t2", "a new bucket keeps what is overwritten or deleted"),
        ("aws", "is gone, unless the bucket's versioning is enabled"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(
            dir.path(),
            &["--dialect", dialect],
            &[("T2GATE_BACKEND__KIND", "memory")],
        );
        let (code, output) = running.stop();
        assert_eq!(code, Some(0));
        assert!(output.contains(said), "{output}");
        assert!(!output.contains("not yet    versioning"), "{output}");
    }
}

#[test]
fn faults_of_several_backends_are_told_one_a_line_with_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let two = "[[backend]]\nname = \"main\"\nroot = \"a\"\n[[backend]]\nname = \"archive\"\nroot = \"b\"\n";
    let check = |text: String| {
        fs::write(dir.path().join("t2gate.toml"), text).unwrap();
        run(dir.path(), &["check", "--config", "t2gate.toml"])
    };
    let entry = |name, backend| format!("[[bucket]]\nname = {name:?}\nbackend = {backend:?}\n");
    let (code, said) = check(format!("{two}{}", entry("logs-*", "archive")));
    assert_eq!((code, &*said), (Some(0), ""));
    let (code, said) = check(format!("{two}{}{}", entry("logs-*", "elsewhere"), entry("BAD", "main")));
    assert_eq!((code, said.lines().count()), (Some(2), 2), "{said}");
    assert!(
        said.contains("bucket.0.backend: expected the name of a backend: main, archive")
            && said.contains("bucket.1.name"),
        "{said}"
    );
    let (code, said) = check(format!(
        "{}{}",
        two.replace("\"b\"", "\"a\""),
        entry("logs-*", "archive")
    ));
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("backend.1.root"), "{said}");
}

#[test]
fn several_backends_are_greeted_by_name_and_one_that_cannot_be_opened_too() {
    let dir = tempfile::tempdir().unwrap();
    let two = "[[backend]]\nname = \"main\"\nroot = \"a\"\n[[backend]]\nname = \"archive\"\nroot = \"b\"\n\
               [[bucket]]\nname = \"logs-*\"\nbackend = \"archive\"\n";
    fs::write(dir.path().join("t2gate.toml"), two).unwrap();
    let running = Running::start(dir.path(), &["--config", "t2gate.toml", "--data", "c"], &[]);
    assert!(
        running.greeting.contains("data       main: /") && running.greeting.contains("data       archive: /"),
        "{}",
        running.greeting
    );
    assert!(dir.path().join("c/.t2/keys.toml").exists() && !dir.path().join("a").exists());
    assert!(!dir.path().join("b/.t2/keys.toml").exists());
    // Another gateway has the tree of one of them.
    let (code, said) = run(
        dir.path(),
        &["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"],
    );
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("backend archive: "), "{said}");
    running.stop();
}

#[test]
fn a_store_in_a_list_is_probed_by_check_and_greeted_with_its_level() {
    let dir = tempfile::tempdir().unwrap();
    let two = "[[backend]]\nname = \"main\"\nroot = \"a\"\n\
               [[backend]]\nname = \"cloud\"\nkind = \"opendal\"\nservice = \"memory\"\nleast_level = \"L1\"\n\
               [[bucket]]\nname = \"logs-*\"\nbackend = \"cloud\"\n";
    let file = dir.path().join("t2gate.toml");
    fs::write(&file, two).unwrap();
    let check = || run(dir.path(), &["check", "--config", "t2gate.toml"]);
    assert_eq!(check(), (Some(0), String::new()));
    assert!(!dir.path().join("a").exists(), "to check makes nothing");
    let running = Running::start(dir.path(), &["--config", "t2gate.toml"], &[]);
    let greeting = &running.greeting;
    for said in [
        "data       main: /",
        "data       cloud: in a store (memory): names are encoded",
        "level      L1",
        "UNSAFE     with a second gateway on this store",
        "versions   a new bucket keeps",
    ] {
        assert!(greeting.contains(said), "{said} is not in\n{greeting}");
    }
    assert!(!greeting.contains("there it is gone"), "{greeting}");
    running.stop();

    fs::write(&file, two.replace("L1", "L2")).unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(1));
    let why = "backend cloud: the configuration asks for level L2, compare and set (least_level)";
    assert!(said.contains(why), "{said}");
    let (code, said) = run(
        dir.path(),
        &["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"],
    );
    assert_eq!(code, Some(1));
    assert!(said.contains(why), "{said}");
}

/// One line for each question, on the output that is not for complaints.
#[test]
fn check_prints_what_came_of_each_question() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[backend]\nkind = \"opendal\"\nservice = \"memory\"\n";
    fs::write(dir.path().join("t2gate.toml"), text).unwrap();
    let (code, said, complaint) = run_whole(dir.path(), &["check", "--config", "t2gate.toml"]);
    assert_eq!((code, &*complaint), (Some(0), ""));
    let table = [
        ("takes an object", "yes"),
        ("gives it back, whole and in part", "yes"),
        ("keeps metadata with an object", "no, and cannot be asked for"),
        (
            "refuses to read what has been replaced since",
            "no, and cannot be asked for",
        ),
        ("lists it", "yes"),
        ("lists in byte order", "yes"),
        ("lists after a given name", "no, and cannot be asked for"),
        ("create if absent: refuses the second, keeps the first", "yes"),
        (
            "compare and set on write: refuses the stale, takes the good",
            "no, and cannot be asked for",
        ),
        (
            "a token is of one write: stale behind the same bytes again",
            "no, and cannot be asked for",
        ),
        ("tags what is written in one piece with its MD5, no other", "no"),
        ("compare and set on copy (not used)", "no, and cannot be asked for"),
        ("compare and set on delete", "no, and cannot be asked for"),
        ("deletes it", "yes"),
        ("known to show no object half written", "yes"),
        ("level", "L1, create if absent"),
    ];
    let lines = table
        .map(|(question, outcome)| format!("  {question:<58} {outcome}\n"))
        .concat();
    assert_eq!(said, format!("opendal (memory):\n{lines}t2gate.toml: nothing wrong\n"));
}

/// Check says of a store what a start would say, in the same words; and it shows beforehand what was found.
#[test]
fn check_refuses_what_serve_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[backend]\nkind = \"opendal\"\nservice = \"memory\"\nlayout = \"transparent\"\n";
    fs::write(dir.path().join("t2gate.toml"), text).unwrap();
    let why = "the transparent layout needs a store that keeps metadata with objects";
    let (code, said, complaint) = run_whole(dir.path(), &["check", "--config", "t2gate.toml"]);
    assert_eq!((code, complaint.lines().count()), (Some(1), 1), "{complaint}");
    assert!(complaint.contains(why), "{complaint}");
    assert!(said.contains("level ") && !said.contains("nothing wrong"), "{said}");
    let serve = ["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"];
    let (code, said) = run(dir.path(), &serve);
    assert_eq!(code, Some(1));
    assert!(said.contains(why) && said.contains("level "), "{said}");
}

#[test]
fn check_says_all_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let text = "[tls]\ncertificate = \"none.pem\"\nkey = \"none.key\"\n\
                [[backend]]\nname = \"main\"\nroot = \"not-yet\"\n\
                [[backend]]\nname = \"archive\"\nroot = \"file\"\n\
                [[backend]]\nname = \"cloud\"\nkind = \"opendal\"\nservice = \"memory\"\nlayout = \"transparent\"\n\
                [[bucket]]\nname = \"a-*\"\nbackend = \"archive\"\n[[bucket]]\nname = \"c-*\"\nbackend = \"cloud\"\n";
    fs::write(dir.path().join("t2gate.toml"), text).unwrap();
    let (code, complaint) = run(dir.path(), &["check", "--config", "t2gate.toml"]);
    assert_eq!((code, complaint.lines().count()), (Some(1), 3), "{complaint}");
    for words in [
        "cannot read the certificate none.pem",
        "backend archive: file is no directory",
        "backend cloud: ",
    ] {
        assert!(complaint.contains(words), "{words} is not in\n{complaint}");
    }
    assert!(!dir.path().join("not-yet").exists());
}

/// Answers every request with a refusal, as a store does that does not know the credentials.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                // Who did not wait for it is gone.
                drop(stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
            });
        }
    });
    address
}

/// The first line of the log with these words.
fn wait_for_log(directory: &Path, words: &str) -> String {
    let start = Instant::now();
    loop {
        let log = fs::read_to_string(directory.join(LOG)).unwrap();
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{words:?} is not in {log}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn at_sighup_it_looks_for_another_certificate_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // Two gateways have made each its own.
    let [old, new] = ["old", "new"].map(|data| {
        let (code, said) = Running::start(dir.path(), &["--data", data], &[]).stop();
        assert_eq!(code, Some(0), "{said}");
        dir.path().join(data).join(".t2/tls")
    });
    let put = |from: &Path| {
        for file in ["cert.pem", "key.pem"] {
            fs::copy(from.join(file), dir.path().join(file)).unwrap();
        }
    };
    put(&old);
    let files = [("T2GATE_TLS__CERTIFICATE", "cert.pem"), ("T2GATE_TLS__KEY", "key.pem")];
    let running = Running::start(dir.path(), &[], &files);
    let hang_up = || {
        let id = running.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    };
    hang_up();
    wait_for_log(dir.path(), "the certificate is the same as before");
    put(&new);
    hang_up();
    wait_for_log(dir.path(), "another certificate is in force");
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    hang_up();
    wait_for_log(dir.path(), "the certificate stays the old one");
    let metrics = running.admin("/metrics");
    // From yesterday, for 397 days.
    let days_from_now = |name: &str| {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(&metrics);
        let seconds = line.trim().parse::<i64>().unwrap() - SystemClock.now().unix_seconds();
        seconds.div_euclid(86_400)
    };
    let begins = days_from_now("t2gate_certificate_not_before_timestamp_seconds ");
    assert!((-3..0).contains(&begins), "{begins}");
    let expires = days_from_now("t2gate_certificate_expiry_timestamp_seconds ");
    assert!((394..397).contains(&expires), "{expires}");
    let (code, said) = running.stop();
    assert_eq!(code, Some(0), "{said}");
}

/// As process 1 of a container it would not even die of the signal.
#[test]
fn whoever_waits_for_a_store_that_does_not_answer_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap();
    let text = format!(
        "[backend]\nkind = \"opendal\"\nservice = \"s3\"\noptions = {{ bucket = \"b\", region = \"us-east-1\", \
         endpoint = \"http://{endpoint}\", access_key_id = \"x\", secret_access_key = \"y\", disable_config_load = \"true\" }}\n"
    );
    fs::write(dir.path().join("t2gate.toml"), text).unwrap();
    let mut command = t2gate(dir.path());
    let mut child = command
        .args(["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.path().join(LOG)).unwrap())
        .spawn()
        .unwrap();
    let _asked = listener.accept().unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let code = child.wait().unwrap().code();
    let said = fs::read_to_string(dir.path().join(LOG)).unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("opening a store") && said.contains("stopped before anything was served"),
        "{said}"
    );
}

/// Every service that a build has by itself, with its secrets, which come by a file and by a variable in turn. All that
/// it calls goes to a server here that refuses it.
#[test]
fn no_service_has_its_secrets_in_what_is_said() {
    const SECRET: &str = "aHVudGVyMmh1bnRlcjI=";
    let address = refusing();
    let endpoint = format!("http://{address}");
    let at = |options: &str| options.replace("ENDPOINT", &format!("endpoint = \"{endpoint}\""));
    let services = [
        (
            "s3",
            "secret_access_key",
            "bucket = \"b\", region = \"r\", access_key_id = \"id\", ENDPOINT",
        ),
        ("gcs", "token", "bucket = \"b\", ENDPOINT"),
        (
            "azblob",
            "account_key",
            "container = \"b\", account_name = \"a\", ENDPOINT",
        ),
        (
            "azblob",
            "sas_token",
            "container = \"b\", account_name = \"a\", ENDPOINT",
        ),
        (
            "azdls",
            "account_key",
            "filesystem = \"b\", account_name = \"a\", ENDPOINT",
        ),
        (
            "b2",
            "application_key",
            "bucket = \"b\", bucket_id = \"i\", application_key_id = \"id\"",
        ),
        (
            "oss",
            "access_key_secret",
            "bucket = \"b\", access_key_id = \"id\", ENDPOINT",
        ),
        ("cos", "secret_key", "bucket = \"b\", secret_id = \"id\", ENDPOINT"),
        (
            "obs",
            "secret_access_key",
            "bucket = \"b\", access_key_id = \"id\", ENDPOINT",
        ),
        ("swift", "token", "container = \"b\", ENDPOINT"),
        ("webdav", "password", "username = \"u\", ENDPOINT"),
        ("webdav", "token", "ENDPOINT"),
    ];
    let started: Vec<_> = services
        .into_iter()
        .enumerate()
        .map(|(i, (service, option, options))| {
            let dir = tempfile::tempdir().unwrap();
            let secret = match option {
                "sas_token" => format!("sv=2024-01-01&sp=rw&sig={SECRET}"),
                _ => SECRET.to_owned(),
            };
            let by_file = i % 2 == 0;
            let mut options = at(options);
            if by_file {
                fs::write(dir.path().join("secret"), format!("{secret}\n")).unwrap();
                options += &format!(", {option}_file = \"secret\"");
            }
            let text = format!(
                "[log]\nlevel = \"debug\"\n[backend]\nkind = \"opendal\"\nservice = \"{service}\"\n\
                 options = {{ {options} }}\n"
            );
            fs::write(dir.path().join("t2gate.toml"), text).unwrap();
            let mut command = t2gate(dir.path());
            command.args(["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"]);
            // Also for those whose address has another name before it, or is no option.
            for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                command.env(variable, &endpoint);
            }
            command.env_remove("NO_PROXY").env_remove("no_proxy");
            if !by_file {
                command.env(format!("T2GATE_BACKEND__OPTIONS__{}", option.to_uppercase()), &secret);
            }
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            (service, option, dir, child)
        })
        .collect();
    for (service, option, _dir, child) in started {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(1), "{service}: {said}");
        assert!(
            said.contains("the store does not do what every store has to"),
            "{service}: {said}"
        );
        for text in [SECRET, SECRET.trim_end_matches('='), "hunter2"] {
            assert!(!said.contains(text), "{service} shows its {option}: {said}");
        }
    }
}

/// As in an image that has nothing but the program.
#[test]
fn a_store_is_not_opened_without_root_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[backend]\nkind = \"opendal\"\nservice = \"s3\"\n\
                options = { bucket = \"b\", region = \"r\", endpoint = \"http://127.0.0.1:1\" }\n";
    fs::write(dir.path().join("t2gate.toml"), text).unwrap();
    let mut command = t2gate(dir.path());
    command.args(["serve", "--config", "t2gate.toml", "--listen", "127.0.0.1:0"]);
    command.env("SSL_CERT_FILE", "/no/such/file").env_remove("SSL_CERT_DIR");
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("SSL_CERT_FILE") && !said.contains("panicked"), "{said}");
}

#[test]
fn a_bucket_in_the_wrong_backend_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let two = "[[backend]]\nname = \"main\"\nroot = \"a\"\nadopt_account = \"default\"\n\
               [[backend]]\nname = \"archive\"\nroot = \"b\"\n\
               [[bucket]]\nname = \"logs-*\"\nbackend = \"archive\"\n";
    fs::write(dir.path().join("t2gate.toml"), two).unwrap();
    for bucket in ["logs-old", "data"] {
        fs::create_dir_all(dir.path().join("a").join(bucket)).unwrap();
    }
    let running = Running::start(dir.path(), &["--config", "t2gate.toml"], &[]);
    let told = wait_for_log(dir.path(), "not served");
    assert!(
        told.contains("logs-old") && told.contains("main") && !told.contains("data"),
        "{told}"
    );
    running.stop();
}

#[test]
fn doctor_says_by_its_exit_code_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["doctor", "--data", "nothing"]).0, Some(2));
    let running = Running::start(dir.path(), &[], &[]);
    assert_eq!(run(dir.path(), &["doctor", "--data", "t2-data"]).0, Some(2), "in use");
    running.stop();
    assert_eq!(run(dir.path(), &["doctor", "--data", "t2-data"]).0, Some(0));
    fs::write(dir.path().join("t2-data/.t2/attributes/0123"), "x").unwrap();
    let output = t2gate(dir.path())
        .args(["doctor", "--data", "t2-data", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = |repaired: bool| {
        let finding = json!({ "kind": "orphaned-side-file", "path": ".t2/attributes/0123", "repaired": repaired });
        json!({ "buckets": 0, "objects": 0, "findings": [finding] })
    };
    let parsed = |output: &[u8]| serde_json::from_slice::<serde_json::Value>(output).unwrap();
    assert_eq!(parsed(&output.stdout), report(false));
    let examine = |arguments: &[&str]| {
        let common = ["doctor", "--data", "t2-data"];
        let output = t2gate(dir.path()).args([&common, arguments].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let table = "orphaned-side-file              .t2/attributes/0123\n\
                 0 buckets, 0 objects, 1 findings, 0 of them repaired\n";
    assert_eq!(examine(&[]), (Some(1), table.to_owned()));
    let (code, repaired) = examine(&["--repair", "--json"]);
    assert_eq!((code, parsed(repaired.as_bytes())), (Some(1), report(true)));
    // What a terminal would obey is told in other words.
    fs::write(dir.path().join("t2-data/.t2/attributes/\u{1b}[2J\n"), "x").unwrap();
    let table = "orphaned-side-file    repaired  .t2/attributes/\\u{1b}[2J\\n\n\
                 0 buckets, 0 objects, 1 findings, 1 of them repaired\n";
    assert_eq!(examine(&["--repair"]), (Some(1), table.to_owned()));
    let whole = "0 buckets, 0 objects, 0 findings, 0 of them repaired\n";
    assert_eq!(examine(&[]), (Some(0), whole.to_owned()));
}

#[test]
fn a_wrong_configuration_is_one_line_per_fault_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), "[limits]\nconections = 1\nconnections = 0\n").unwrap();
    for arguments in [["check", "--config", "c.toml"], ["serve", "--config", "c.toml"]] {
        let (code, said) = run(dir.path(), &arguments);
        assert_eq!(code, Some(2));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(
            lines[0].starts_with("t2gate: c.toml: limits.conections: unknown key"),
            "{said}"
        );
        assert!(
            lines[1].starts_with("t2gate: c.toml: limits.connections: must be between 1"),
            "{said}"
        );
    }
    assert_eq!(run(dir.path(), &["serve", "--dialect", "gcs"]).0, Some(2));
    assert_eq!(run(dir.path(), &["serve", "--no-such-option"]).0, Some(2));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_right_configuration_is_said_to_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.example.toml");
    assert_eq!(
        run(dir.path(), &["check", "--config", example]),
        (Some(0), String::new())
    );
    assert_eq!(run(dir.path(), &["--version"]).0, Some(0));
}

/// One clear line, and exit code 1.
#[track_caller]
fn fails(directory: &Path, arguments: &[&str], expected: &str) {
    let (code, said) = run(
        directory,
        &[&["serve", "--admin-listen", "127.0.0.1:0"], arguments].concat(),
    );
    assert_eq!(code, Some(1), "{said}");
    let complaints: Vec<_> = said.lines().filter(|line| line.starts_with("t2gate: ")).collect();
    assert!(
        matches!(complaints.as_slice(), [one] if one.contains(expected)),
        "{said}"
    );
}

#[test]
fn a_taken_port_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(
        dir.path(),
        &["--listen", &address],
        &format!("cannot listen on {address} (listen.address): "),
    );
}

#[test]
fn a_data_directory_that_cannot_be_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fails(
        dir.path(),
        &["--listen", "127.0.0.1:0", "--data", "file"],
        "the data directory file: ",
    );
    // Root may write anywhere but here.
    fails(
        dir.path(),
        &["--listen", "127.0.0.1:0", "--data", "/proc/t2gate"],
        "cannot create the data directory",
    );
}

#[test]
fn a_certificate_that_cannot_be_served_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("c.toml"),
        "[tls]\ncertificate = \"none.pem\"\nkey = \"none.key\"\n",
    )
    .unwrap();
    fails(
        dir.path(),
        &["--listen", "127.0.0.1:0", "--config", "c.toml"],
        "cannot read the certificate none.pem: ",
    );
    let (code, said) = run(dir.path(), &["check", "--config", "c.toml"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
}

#[test]
fn secrets_on_the_disk_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    Running::start(dir.path(), &[], &[]).stop();
    for name in ["keys.toml", "tls/ca.key", "tls/key.pem"] {
        let path = dir.path().join("t2-data/.t2").join(name);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
}

/// Every name below a directory, with what changes when it does.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec()));
    }
    found
}

#[test]
fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t2-data");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clock = Arc::new(SystemClock);
    let open = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // What was closed may still be held by a thread for a moment.
            match FsBackend::open(FsOptions::new(&root, clock.clone())) {
                Err(FsOpenError::Locked(_)) if Instant::now() < deadline => sleep(Duration::from_millis(5)),
                opened => break Arc::new(Versioned::new(opened.unwrap(), clock.clone()).unwrap()),
            }
        }
    };
    let photos = || BucketName::parse("photos").unwrap();
    let then = runtime.block_on(async {
        let s = Subject::of(open(), photos()).await;
        s.put_bucket_setting(&s.bucket, BucketSetting::Versioning(VersioningStatus::Enabled))
            .await
            .unwrap();
        let upload = s.upload("of parts").await;
        let parts = vec![s.part(&upload, 1, "one ").await, s.part(&upload, 3, "three").await];
        let made = s.complete(&upload, parts).await.unwrap();
        s.put("deleted", "x").await;
        made
    });
    sleep(Duration::from_millis(20));
    let at = jiff::Timestamp::now().to_string();
    sleep(Duration::from_millis(20));
    runtime.block_on(async {
        let s = Subject::of(open(), photos()).await;
        s.put("of parts", "other").await;
        s.delete("deleted").await;
    });
    fs::create_dir(root.join("theirs")).unwrap();
    drop(open());
    fs::write(root.join(".t2/staging/left"), "behind").unwrap();
    fs::write(dir.path().join("c.toml"), "[backend]\nadopt_account = \"default\"\n").unwrap();
    let before = snapshot(&root);
    let ask = |arguments: &[&str]| {
        let common = ["--config", "c.toml", "--data", "t2-data", "--bucket", "photos"];
        let deadline = Instant::now() + Duration::from_secs(20);
        let output = loop {
            let output = t2gate(dir.path()).args([arguments, &common].concat()).output().unwrap();
            // A process that another test just starts has the lock that was just given back, until it is that program.
            let is_held = String::from_utf8_lossy(&output.stderr).contains("another process serves");
            if !is_held || Instant::now() > deadline {
                break output;
            }
            sleep(Duration::from_millis(10));
        };
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = ask(&["undelete", "--dry-run"]);
    assert!(said.ends_with("2 keys examined, 1 would be changed\n"), "{said}");
    let said = ask(&["restore", "--dry-run", "--at", &at]);
    assert!(said.ends_with("2 keys examined, 2 would be changed\n"), "{said}");
    assert_eq!(snapshot(&root), before);
    assert_eq!(
        ask(&["restore", "--at", &at]),
        said.replace("would be changed", "changed")
    );
    runtime.block_on(async {
        let s = Subject::of(open(), photos()).await;
        let now = s.open("of parts").await.unwrap();
        assert_eq!(
            (&now.info.etag, now.info.parts_count, &now.info.attributes),
            (&then.etag, Some(2), &then.attributes)
        );
        let parts = now.reader.parts(0, 10).await.unwrap();
        let numbers: Vec<_> = parts.iter().map(|part| (part.part_number.get(), part.size)).collect();
        assert_eq!(numbers, [(1, 4), (3, 5)]);
        assert_eq!(s.get("of parts").await.unwrap(), "one three");
        assert_eq!(s.get("deleted").await.unwrap(), "x");
    });
    assert!(!root.join(".t2/staging/left").exists());
}

/// Where several processes serve a directory, this is one more.
#[test]
fn what_was_deleted_comes_back_beside_a_gateway_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t2-data");
    fs::write(
        dir.path().join("c.toml"),
        "[backend]\nroot = \"t2-data\"\nshared = true\n",
    )
    .unwrap();
    let running = Running::start(dir.path(), &["--config", "c.toml"], &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clock = Arc::new(SystemClock);
    let mut options = FsOptions::new(&root, clock.clone());
    options.shared = true;
    let backend = Arc::new(Versioned::new(FsBackend::open(options).unwrap(), clock).unwrap());
    runtime.block_on(async {
        let s = Subject::of(backend.clone(), BucketName::parse("photos").unwrap()).await;
        s.put_bucket_setting(&s.bucket, BucketSetting::Versioning(VersioningStatus::Enabled))
            .await
            .unwrap();
        for key in ["a/1", "a/2", "b/1"] {
            s.put(key, "x").await;
            s.delete(key).await;
        }
    });
    let ask = |arguments: &[&str]| {
        let common = ["undelete", "--config", "c.toml", "--bucket", "photos"];
        let output = t2gate(dir.path()).args([&common, arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let would = ask(&["--prefix", "a/", "--dry-run"]);
    assert_eq!(
        would,
        "undelete  a/1\nundelete  a/2\n2 keys examined, 2 would be changed\n"
    );
    assert_eq!(ask(&["--prefix", "a/"]), would.replace("would be changed", "changed"));
    assert_eq!(ask(&["--prefix", "a/"]), "2 keys examined, 0 changed\n");
    runtime.block_on(async {
        let s = Subject::of(backend, BucketName::parse("photos").unwrap()).await;
        assert_eq!(s.get("a/1").await.unwrap(), "x");
        assert_eq!(s.get("a/2").await.unwrap(), "x");
        assert_eq!(s.get("b/1").await, None);
    });
    assert!(running.admin("/readyz").starts_with("HTTP/1.1 200"));
    running.stop();
}

#[test]
fn undelete_and_restore_say_what_they_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| run(dir.path(), &[arguments, &["--bucket", "photos"]].concat());
    // A directory that is not there is a slip of the pen, and not made.
    let (code, said) = ask(&["undelete", "--data", "nowhere"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("nowhere") && !dir.path().join("nowhere").exists(),
        "{said}"
    );
    // One that is served is somebody's.
    let running = Running::start(dir.path(), &[], &[]);
    let (code, said) = ask(&["undelete"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another process serves"), "{said}");
    running.stop();
    let (code, said) = ask(&["restore", "--at", "2026-11-20T18:00:00Z"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no such bucket"), "{said}");
    let (code, said) = ask(&["restore", "--at", "yesterday"]);
    assert_eq!(code, Some(2), "{said}");
}
