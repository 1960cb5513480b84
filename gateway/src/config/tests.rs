use std::{fs, net::SocketAddr, num::NonZeroU32, time::Duration};

use secrecy::ExposeSecret as _;
use t2gate_backends::{Durability, StoreLayout, StoreLevel, store_services};

use super::*;
use crate::{
    dialect::Dialect,
    keys::Capability,
    rate_limit::{Limit, Quota},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.example.toml");

/// Loads `text` as the file, with these variables.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t2gate.toml");
    fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Config::load_from(Some(&path), variables, &Overrides::default())
}

/// The faults, as `key: problem`.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults = load(text, variables).expect_err(text).faults;
    assert!(!faults.is_empty());
    faults
        .iter()
        .map(|fault| format!("{}: {}", fault.key, fault.problem))
        .collect()
}

fn defaults() -> Config {
    Config::load_from(None, Vec::new(), &Overrides::default()).unwrap()
}

/// All that can be compared.
fn sections(config: &Config) -> impl PartialEq + std::fmt::Debug + use<> {
    let Config {
        listen,
        tls,
        limits,
        rate_limit,
        s3,
        backends,
        log,
        keys,
        file: _,
    } = config.clone();
    (listen, tls, limits, rate_limit, s3, backends, log, keys.is_some())
}

#[test]
fn nothing_configured_listens_on_loopback_and_serves_a_directory() {
    let config = defaults();
    assert_eq!(config.listen.address, SocketAddr::from(([127, 0, 0, 1], 8443)));
    assert!(config.listen.admin_address.ip().is_loopback());
    assert_eq!(config.s3.dialect, Dialect::T2);
    assert_eq!(config.backends.default.root, Path::new("./t2-data"));
    assert!(!config.tls.http2);
    assert!(config.keys.is_none());
}

#[test]
fn the_example_loads_and_says_the_defaults() {
    let config = Config::load_from(Some(Path::new(EXAMPLE)), Vec::new(), &Overrides::default()).unwrap();
    assert_eq!(sections(&config), sections(&defaults()));
}

#[test]
fn the_example_has_every_key() {
    let example = fs::read_to_string(EXAMPLE).unwrap();
    // serde tells what each section knows when it meets what it does not.
    let sections = [
        "[listen]",
        "[tls]",
        "[limits]",
        "[rate_limit]",
        "[s3]",
        "[backend]",
        "[[bucket]]",
        "[log]",
        "[[account]]",
    ];
    for section in sections.into_iter().chain(["[[account]]\n[[account.key]]"]) {
        for header in section.lines() {
            assert!(example.contains(header), "{header}");
        }
        let fault = faults(&format!("{section}\nno_such_key = 1\n"), &[]).remove(0);
        let known = fault
            .split_once("known here are ")
            .expect("an unknown key")
            .1
            .to_owned();
        for key in known
            .split(", ")
            .filter(|&key| (section, key) != ("[[account]]", "key"))
        {
            let written = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = "));
            assert!(example.lines().any(written), "{section} {key} is not in the example");
        }
    }
}

#[test]
fn what_the_example_has_commented_out_is_valid_too() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "s3cr3t-of-a-file\n").unwrap();
    let example = fs::read_to_string(EXAMPLE).unwrap();
    // Prose has a space after its mark, settings have none.
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| !first.is_whitespace()) => setting.to_owned(),
        _ => line.to_owned(),
    };
    let text: Vec<String> = example.lines().map(uncommented).collect();
    let text = text
        .join("\n")
        .replace("/run/secrets/t2gate-backup", secret.to_str().unwrap());
    let config = load(&text, &[]).unwrap();
    assert!(config.tls.certificate.is_some());
    let keys = config.keys.expect("accounts");
    assert_eq!((keys.accounts().count(), keys.keys().count()), (1, 3));
}

#[test]
fn a_misspelt_key_is_refused_with_its_name_and_the_file() {
    let error = load("[limits]\nconections = 5\n", &[]).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("t2gate.toml: limits.conections: unknown key"), "{shown}");
    assert!(faults("[limit]\n", &[])[0].starts_with("limit: unknown key"));
    assert!(
        faults("[[account]]\nid = \"a\"\n[[account.key]]\nsecrt = \"x\"\n", &[])[0]
            .starts_with("account.0.key.0.secrt: unknown key")
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let text = r#"
        bogus = 1
        [listen]
        address = "here"
        [tls]
        certificate = "a.pem"
        min_version = "1.1"
        http2 = "perhaps"
        [limits]
        connections = 0
        header_timeout = "soon"
        keep_alive_timeout = "0s"
        [s3]
        dialect = "gcs"
        trusted_proxies = ["10.0.0.0/8", "nobody", "10.0.0.0/99"]
        [log]
        level = "loud=very"
    "#;
    let found = faults(text, &[]).join("\n");
    for expected in [
        "bogus: unknown key",
        "listen.address: expected an IP address and a port",
        "tls.key: is missing",
        "tls.min_version: expected \"1.2\" or \"1.3\", found \"1.1\"",
        "tls.http2: expected true or false, found \"perhaps\"",
        "limits.connections: must be between 1 and",
        "limits.header_timeout: expected a length of time",
        "limits.keep_alive_timeout: must be between",
        "s3.dialect: expected \"t2\" or \"aws\", found \"gcs\"",
        "s3.trusted_proxies: expected an IP address or a network such as 10.0.0.0/8, found \"nobody\"",
        "found \"10.0.0.0/99\"",
        "log.level: expected a level",
    ] {
        assert!(found.contains(expected), "{expected}\nis not in\n{found}");
    }
    assert_eq!(found.lines().count(), 12, "{found}");
}

#[test]
fn a_wrong_type_is_said_in_plain_words() {
    assert_eq!(
        faults("[limits]\nconnections = \"many\"", &[]),
        ["limits.connections: expected a whole number, found \"many\""]
    );
    assert_eq!(
        faults("[limits]\nconnections = -1", &[]),
        ["limits.connections: expected a whole number, found -1"]
    );
    assert_eq!(faults("limits = 3", &[]), ["limits: expected a section, found 3"]);
    assert_eq!(
        faults("[account]", &[]),
        ["account: expected a list ([[...]] in the file), found a section"]
    );
}

#[test]
fn a_syntax_error_names_the_line_and_not_what_it_says() {
    let error = load("[log]\nlevel = \"info\"\nsecret = \"hunter2hunter2\n", &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("t2gate.toml:3: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn a_missing_file_is_one_fault() {
    let error = Config::load_from(
        Some(Path::new("/nowhere/t2gate.toml")),
        Vec::new(),
        &Overrides::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/t2gate.toml: cannot read: "),
        "{error}"
    );
}

#[test]
fn the_environment_overrides_the_file_and_the_command_line_overrides_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t2gate.toml");
    fs::write(
        &path,
        "[s3]\nregion = \"from-file\"\ndialect = \"t2\"\n[log]\nlevel = \"warn\"\n",
    )
    .unwrap();
    let variables = [
        ("T2GATE_S3__REGION", "from-env"),
        ("T2GATE_S3__DIALECT", "t2"),
        ("T2GATE_LIMITS__CONNECTIONS", "7"),
        ("T2GATE_LIMITS__HEADER_TIMEOUT", "3s"),
        ("T2GATE_TLS__MIN_VERSION", "1.3"),
        ("T2GATE_TLS__HTTP2", "true"),
        ("T2GATE_S3__BASE_DOMAINS", "a.example, b.example"),
        ("T2GATE_LOG", "debug"),
    ];
    let variables = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let overrides = Overrides {
        dialect: Some("aws".to_owned()),
        data: Some("/srv/x".into()),
        ..Overrides::default()
    };
    let config = Config::load_from(Some(&path), variables, &overrides).unwrap();
    assert_eq!(&*config.s3.region, "from-env");
    assert_eq!(config.s3.dialect, Dialect::Aws);
    assert_eq!(config.backends.default.root, Path::new("/srv/x"));
    assert_eq!(config.limits.connections, 7);
    assert_eq!(config.limits.header_timeout, Duration::from_secs(3));
    assert_eq!(config.tls.min_version, TlsVersion::V1_3);
    assert!(config.tls.http2);
    assert_eq!(config.s3.base_domains, ["a.example".into(), "b.example".into()]);
    assert_eq!(&*config.log.level, "debug");
}

#[test]
fn durability_is_the_safest_unless_configured() {
    assert_eq!(defaults().backends.default.durability, Durability::PowerSafe);
    let config = load("[backend]\ndurability = \"process-safe\"\n", &[]).unwrap();
    assert_eq!(config.backends.default.durability, Durability::ProcessSafe);
    let faults = faults("[backend]\ndurability = \"none\"\n", &[]);
    assert!(
        faults[0].contains("backend.durability") && faults[0].contains("process-safe"),
        "{faults:?}"
    );
}

#[test]
fn a_root_is_shared_only_where_that_is_said_and_can_be() {
    assert!(!defaults().backends.default.shared);
    assert!(load("[backend]\nshared = true\n", &[]).unwrap().backends.default.shared);
    let variables = [("T2GATE_BACKEND__SHARED", "true")];
    assert!(load("", &variables).unwrap().backends.default.shared);
    for kind in ["kind = \"memory\"", "kind = \"opendal\"\nservice = \"memory\""] {
        let faults = faults(&format!("[backend]\n{kind}\nshared = true\n"), &[]);
        assert!(faults[0].contains("backend.shared"), "{faults:?}");
    }
}

#[test]
fn a_fault_names_the_variable_or_the_command_line_that_it_came_from() {
    let error = load("[limits]\nconnections = 5\n", &[("T2GATE_LIMITS__CONNECTIONS", "x")]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("T2GATE_LIMITS__CONNECTIONS: limits.connections: "),
        "{error}"
    );
    let error = load("", &[("T2GATE_LIMITS__CONECTIONS", "5")]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("T2GATE_LIMITS__CONECTIONS: limits.conections: unknown key"),
        "{error}"
    );
    let overrides = Overrides {
        listen: Some("x".to_owned()),
        ..Overrides::default()
    };
    let error = Config::load_from(None, Vec::new(), &overrides).unwrap_err();
    assert!(
        error.to_string().starts_with("command line: listen.address: "),
        "{error}"
    );
}

#[test]
fn a_variable_that_is_no_key_is_refused_and_a_service_link_is_not() {
    let error = load("", &[("T2GATE_LISTEN_ADDRESS", "127.0.0.1:1")]).unwrap_err();
    assert!(
        error.to_string().starts_with("T2GATE_LISTEN_ADDRESS: unknown variable"),
        "{error}"
    );
    let links = [
        ("T2GATE_PORT", "tcp://10.0.0.1:8443"),
        ("T2GATE_SERVICE_HOST", "10.0.0.1"),
        ("T2GATE_SERVICE_PORT_S3", "8443"),
        ("T2GATE_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("T2GATE_ADMIN_PORT_8444_TCP", "tcp://10.0.0.1:8444"),
    ];
    load("", &links).unwrap();
}

#[test]
fn an_access_key_of_digits_stays_a_string() {
    let id = "00112233445566778899";
    let config = load("", &[(ACCESS_KEY_ID, id), (SECRET_ACCESS_KEY, "0123456789")]).unwrap();
    let keys = config.keys.expect("one key");
    let key = keys.keys().next().expect("one key");
    assert_eq!((&*key.id, key.secret.expose_secret()), (id, "0123456789"));
    assert_eq!((key.account.as_str(), key.kind), (DEFAULT_ACCOUNT, KeyKind::Global));
}

#[test]
fn half_an_access_key_in_the_environment_is_refused() {
    let error = load("", &[(ACCESS_KEY_ID, "some-id")]).unwrap_err().to_string();
    assert!(error.starts_with("T2GATE_SECRET_ACCESS_KEY: is missing"), "{error}");
    let error = load("", &[(SECRET_ACCESS_KEY, "hunter2hunter2")])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("T2GATE_ACCESS_KEY_ID: is missing") && !error.contains("hunter2"),
        "{error}"
    );
    assert!(
        load("", &[(ACCESS_KEY_ID, ""), (SECRET_ACCESS_KEY, "")])
            .unwrap()
            .keys
            .is_none()
    );
}

#[test]
fn an_access_key_in_the_environment_beside_accounts_is_refused() {
    let error = load(
        ACCOUNT,
        &[(ACCESS_KEY_ID, "some-id"), (SECRET_ACCESS_KEY, "hunter2hunter2")],
    )
    .unwrap_err();
    assert!(error.to_string().contains("accounts are configured"), "{error}");
}

const ACCOUNT: &str = r#"
    [[account]]
    id = "acme"
    name = "Acme"
    max_buckets = 7
    [[account.key]]
    id = "acme-master"
    secret = "0123456789abcdef"
    kind = "master"
    [[account.key]]
    id = "acme-logs"
    secret = "fedcba9876543210"
    kind = "restricted"
    buckets = ["logs"]
    prefix = "2026/"
    capabilities = ["listFiles", "readFiles"]
    expires = 2030-01-31T00:00:00Z
"#;

#[test]
fn accounts_have_keys_with_what_they_may_do() {
    let keys = load(ACCOUNT, &[]).unwrap().keys.unwrap();
    let account = keys.accounts().next().unwrap();
    assert_eq!((account.name.as_deref(), account.max_buckets), (Some("Acme"), Some(7)));
    let key = keys.keys().find(|key| &*key.id == "acme-logs").unwrap();
    assert!(key.allows(Capability::ReadFiles) && !key.allows(Capability::WriteFiles));
    assert_eq!(key.prefix.as_deref(), Some("2026/"));
    assert_eq!(key.expires.unwrap().unix_seconds(), 1_896_048_000);
}

#[test]
fn faults_of_keys_are_told_without_their_secrets() {
    let text = r#"
        [[account]]
        id = "bad id"
        [[account]]
        id = "good"
        [[account.key]]
        id = "a"
        secret = "shhh"
        kind = "global"
        buckets = ["logs"]
        [[account.key]]
        id = "abc"
        secret = 1234567890
        kind = "restricted"
        capabilities = ["readfiles"]
        expires = "tomorrow"
        [[account.key]]
        id = "abd"
        secret_file = "/nowhere/secret"
        kind = "boss"
        capabilities = ["all"]
    "#;
    let found = faults(text, &[]).join("\n");
    for expected in [
        "account.0.id: an account id is",
        "account.0.key: is missing",
        "account.1.key.0.id: expected 3 to 128",
        "account.1.key.0.secret: expected a secret of 8",
        "account.1.key.0.buckets: is only for",
        "account.1.key.0.capabilities: is missing",
        "account.1.key.1.secret: expected a string",
        "account.1.key.1.buckets: is missing",
        "account.1.key.1.capabilities: expected \"all\" alone, or some of listBuckets",
        "account.1.key.1.expires: expected a time",
        "account.1.key.2.secret_file: cannot read /nowhere/secret",
        "account.1.key.2.kind: expected \"master\"",
    ] {
        assert!(found.contains(expected), "{expected}\nis not in\n{found}");
    }
    assert!(!found.contains("shhh") && !found.contains("1234567890"), "{found}");
}

#[test]
fn the_same_key_twice_is_refused() {
    let twice = format!("{ACCOUNT}{}", ACCOUNT.replace("\"acme\"", "\"other\""));
    assert!(faults(&twice, &[])[0].contains("two keys"));
}

#[test]
fn a_rate_limit_is_a_rate_with_its_burst_and_0_is_none() {
    let text = r#"
        [rate_limit]
        per_address = { rate = 0 }
        per_key = { rate = 10 }
        read = { burst = 7 }
        [rate_limit.write]
        rate = 3
        burst = 1
    "#;
    let limits = load(text, &[]).unwrap().rate_limit;
    let quota = |rate, burst| {
        Limit::Quota(Quota::new(
            NonZeroU32::new(rate).unwrap(),
            NonZeroU32::new(burst).unwrap(),
        ))
    };
    assert_eq!(limits.per_address, Limit::Unlimited);
    assert_eq!(limits.per_key, quota(10, 20));
    assert_eq!(limits.write, quota(3, 1));
    let default = defaults().rate_limit;
    assert_eq!(limits.list, default.list);
    let (Limit::Quota(read), Limit::Quota(default)) = (limits.read, default.read) else {
        panic!("reads are limited by default");
    };
    assert_eq!((read.burst().get(), read.rate()), (7, default.rate()));

    let variables = [
        ("T2GATE_RATE_LIMIT__PER_KEY__BURST", "5"),
        ("T2GATE_RATE_LIMIT__LIST__RATE", "0"),
    ];
    let limits = load(text, &variables).unwrap().rate_limit;
    assert_eq!((limits.per_key, limits.list), (quota(10, 5), Limit::Unlimited));
}

#[test]
fn a_key_can_have_limits_of_its_own() {
    let text = format!("{ACCOUNT}\nrate_limit = {{ rate = 50, list = {{ rate = 0 }} }}\n");
    let keys = load(&text, &[]).unwrap().keys.unwrap();
    let limits = |id| keys.keys().find(|key| &*key.id == id).unwrap().rate_limit;
    assert_eq!(limits("acme-master"), KeyLimits::default());
    let own = limits("acme-logs");
    let fifty = Quota::new(NonZeroU32::new(50).unwrap(), NonZeroU32::new(100).unwrap());
    assert_eq!(own.requests, Some(Limit::Quota(fifty)));
    assert_eq!((own.list, own.read), (Some(Limit::Unlimited), None));
}

#[test]
fn a_wrong_rate_limit_is_refused_by_name() {
    let text = format!(
        r#"{ACCOUNT}
        rate_limit = {{ burst = 3, read = {{ rate = 5, burst = 0 }} }}
        [rate_limit]
        max_entries = 1
        per_key = {{ rate = 1000001, burst = 0 }}
        list = 100
        write = {{ rat = 5 }}
    "#
    );
    let found = faults(&text, &[]).join("\n");
    for expected in [
        "rate_limit.list: expected a section, found 100",
        "rate_limit.write.rat: unknown key; known here are rate, burst",
        "rate_limit.max_entries: must be between",
        "rate_limit.per_key.rate: must be between 0 and 1000000, found 1000001",
        "rate_limit.per_key.burst: must be between 1 and 1000000, found 0",
        "account.0.key.1.rate_limit.rate: is missing beside burst",
        "account.0.key.1.rate_limit.read.burst: must be between 1 and 1000000, found 0",
    ] {
        assert!(found.contains(expected), "{expected}\nis not in\n{found}");
    }
    assert_eq!(found.lines().count(), 7, "{found}");
}

#[test]
fn a_store_is_named_with_its_own_options() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "of a file\n").unwrap();
    let text = format!(
        "[backend]\nkind = \"opendal\"\nservice = \"s3\"\nleast_level = \"L2\"\nlayout = \"encoded\"\n\
         options = {{ bucket = \"b\", enable_virtual_host_style = true, secret_access_key_file = {secret:?} }}\n"
    );
    let config = load(&text, &[("T2GATE_BACKEND__OPTIONS__ACCESS_KEY_ID", "id")]).unwrap();
    let backend = &config.backends.default;
    let store = &backend.store;
    assert_eq!((backend.kind, &*store.service), (BackendKind::Opendal, "s3"));
    assert_eq!(
        (store.layout, store.least_level),
        (Some(StoreLayout::Encoded), StoreLevel::CompareAndSet)
    );
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        store.options.0,
        [
            option("access_key_id", "id"),
            option("bucket", "b"),
            option("enable_virtual_host_style", "true"),
            option("secret_access_key", "of a file"),
        ]
    );
    assert!(!format!("{config:?}").contains("of a file"), "a secret is shown");
    for (wrong, key) in [
        ("kind = \"opendal\"", "backend.service"),
        (
            "kind = \"opendal\"\nservice = \"floppy\"",
            "backend.service: there is no service \"floppy\"; this build has azblob, ",
        ),
        ("service = \"s3\"", "backend.service"),
        ("layout = \"plain\"", "backend.layout"),
        ("least_level = \"L3\"", "backend.least_level"),
        ("store_memory = \"1MiB\"", "backend.store_memory"),
        ("options = { key_file = \"/no/such/file\" }", "backend.options.key_file"),
        (
            "kind = \"opendal\"\nservice = \"memory\"\noptions = { a = \"1\", a_file = \"/dev/null\" }",
            "backend.options.a_file",
        ),
    ] {
        let faults = faults(&format!("[backend]\n{wrong}\n"), &[]);
        assert!(faults[0].starts_with(key), "{wrong}: {faults:?}");
    }
}

/// An option that is a path, and called so, is none of ours.
#[test]
fn a_path_that_a_service_calls_a_file_is_left_to_it() {
    let text = "[backend]\nkind = \"opendal\"\nservice = \"oss\"\noptions = { oidc_token_file = \"/run/token\" }\n";
    let options = load(text, &[]).unwrap().backends.default.store.options.0;
    assert_eq!(options, [("oidc_token_file".to_owned(), "/run/token".to_owned())]);
}

#[test]
fn a_build_has_the_services_that_are_promised_and_says_what_another_needs() {
    let services = store_services();
    for service in [
        "s3", "gcs", "azblob", "azdls", "b2", "oss", "cos", "obs", "swift", "webdav", "memory",
    ] {
        assert!(services.iter().any(|known| known == service), "{service}");
    }
    for (service, is_built) in [("sftp", cfg!(feature = "sftp")), ("webhdfs", cfg!(feature = "webhdfs"))] {
        assert_eq!(services.iter().any(|known| known == service), is_built, "{service}");
        let text = format!("[backend]\nkind = \"opendal\"\nservice = \"{service}\"\n");
        if is_built {
            load(&text, &[]).unwrap();
        } else {
            let found = faults(&text, &[]);
            let needed = format!("needs a build with the Cargo feature \"{service}\"");
            assert!(found[0].contains(&needed), "{found:?}");
        }
    }
}

/// What stands behind `#   ` under the options of a store, as a reader would take it over.
#[test]
fn the_examples_of_stores_load() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["s3", "azure", "dav"] {
        fs::write(dir.path().join(name), "a secret\n").unwrap();
    }
    let example = fs::read_to_string(EXAMPLE).unwrap();
    let example = example.replace("/run/secrets", dir.path().to_str().unwrap());
    let lines: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let mut seen = Vec::new();
    for pair in lines.windows(2) {
        let Some(service) = pair[0].strip_prefix("service = ") else {
            continue;
        };
        let service = service.trim_matches('"');
        seen.push(service);
        let text = format!("[backend]\nkind = \"opendal\"\n{}\n{}\n", pair[0], pair[1]);
        match load(&text, &[]) {
            Ok(config) => {
                let store = config.backends.default.store;
                assert!(store.service == service && store.options.0.len() > 1, "{store:?}");
                assert!(
                    !store.options.0.iter().any(|(name, _)| name.ends_with("_file")),
                    "{store:?}"
                );
            }
            Err(error) => {
                assert!(service == "sftp" && !cfg!(feature = "sftp"), "{error}");
                assert_eq!(error.faults.len(), 1, "{error}");
            }
        }
    }
    assert_eq!(seen, ["s3", "azblob", "gcs", "webdav", "sftp"]);
}

#[test]
fn only_an_account_that_there_is_can_adopt_buckets() {
    let adopting = |toml: &str| load(toml, &[]).map(|config| config.backends.default.adoption.others().cloned());
    let default = AccountId::parse("default").unwrap();
    assert_eq!(
        adopting("[backend]\nadopt_account = \"default\"").unwrap(),
        Some(default)
    );
    assert_eq!(adopting("").unwrap(), None);
    let error = adopting("[backend]\nadopt_account = \"nobody\"").unwrap_err();
    assert!(error.to_string().contains("backend.adopt_account"), "{error}");
    let error = adopting("[[bucket]]\nname = \"logs\"\naccount = \"nobody\"").unwrap_err();
    assert!(error.to_string().contains("bucket.0.account"), "{error}");
    assert!(error.to_string().contains("no account \"nobody\""), "{error}");
}
