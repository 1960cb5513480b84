use std::{fs, os::unix::fs::symlink, path::Path};

use t2gate_backends::{AccountId, BucketName, Durability};

use super::super::{BackendKind, Config, ConfigError, Overrides};

fn load(text: &str, variables: &[(&str, &str)], data: Option<&str>) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t2gate.toml");
    fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let overrides = Overrides {
        data: data.map(Into::into),
        ..Overrides::default()
    };
    Config::load_from(Some(&path), variables, &overrides)
}

/// Each fault without the directory of the file.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults = load(text, variables, None).expect_err(text).faults;
    assert!(!faults.is_empty());
    faults
        .iter()
        .map(|fault| {
            let source = fault.source.rsplit('/').next().unwrap();
            format!("{source}: {}: {}", fault.key, fault.problem)
        })
        .collect()
}

const TWO: &str = r#"
    [[backend]]
    name = "main"
    root = "/srv/main"
    [[backend]]
    name = "archive"
    root = "/srv/archive"
    durability = "process-safe"
    concurrent_requests = 32
    memory_budget = 8388608
    [[bucket]]
    name = "logs-new"
    backend = "main"
    [[bucket]]
    name = "logs-*"
    backend = "archive"
"#;

#[test]
fn buckets_lie_in_the_backend_of_the_first_entry_that_matches_else_in_the_first() {
    let backends = load(TWO, &[], None).unwrap().backends;
    assert_eq!((&*backends.default.name, backends.others.len()), ("main", 1));
    let archive = &backends.others[0];
    assert_eq!((&*archive.name, &*archive.root), ("archive", Path::new("/srv/archive")));
    assert_eq!(archive.durability, Durability::ProcessSafe);
    assert_eq!(archive.concurrent_requests, Some(32));
    assert_eq!(archive.memory_budget, Some(8 << 20));
    assert_eq!(backends.default.concurrent_requests, None);
    let of = |bucket: &str| backends.routes.store_of(&BucketName::parse(bucket).unwrap());
    assert_eq!([of("logs-old"), of("logs-new"), of("data")], [1, 0, 0]);
}

#[test]
fn one_table_is_a_backend_that_is_called_as_its_kind_unless_it_has_a_name() {
    let backends = load("[backend]\nkind = \"memory\"", &[], Some("/srv/x"))
        .unwrap()
        .backends;
    assert_eq!((&*backends.default.name, backends.others.len()), ("memory", 0));
    assert_eq!(backends.default.root, Path::new("/srv/x"));
    let named = load("[backend]\nname = \"files\"", &[], None).unwrap().backends;
    assert_eq!(&*named.default.name, "files");
    assert_eq!(&*load("", &[], None).unwrap().backends.default.name, "fs");
}

#[test]
fn a_variable_names_an_entry_by_its_number_and_the_data_directory_is_that_of_the_first() {
    let variables = [
        ("T2GATE_BACKEND__1__KIND", "memory"),
        ("T2GATE_BACKEND__1__CONCURRENT_REQUESTS", "7"),
        ("T2GATE_BUCKET__1__NAME", "old-*"),
    ];
    let backends = load(TWO, &variables, Some("/srv/other")).unwrap().backends;
    assert_eq!(backends.default.root, Path::new("/srv/other"));
    assert_eq!(backends.others[0].kind, BackendKind::Memory);
    assert_eq!(backends.others[0].concurrent_requests, Some(7));
    assert_eq!(backends.routes.store_of(&BucketName::parse("old-1").unwrap()), 1);
    assert_eq!(backends.routes.store_of(&BucketName::parse("logs-1").unwrap()), 0);
}

#[test]
fn a_list_can_come_from_variables_alone() {
    let variables = [
        ("T2GATE_BACKEND__0__NAME", "main"),
        ("T2GATE_BACKEND__1__NAME", "spare"),
        ("T2GATE_BACKEND__1__KIND", "memory"),
        ("T2GATE_BUCKET__0__NAME", "tmp-*"),
        ("T2GATE_BUCKET__0__BACKEND", "spare"),
    ];
    let backends = load("", &variables, None).unwrap().backends;
    assert_eq!((&*backends.default.name, &*backends.others[0].name), ("main", "spare"));
}

#[test]
fn a_fault_of_an_entry_names_it_by_its_number() {
    assert_eq!(
        faults(&TWO.replace("process-safe", "none"), &[]),
        ["t2gate.toml: backend.1.durability: expected \"power-safe\" or \"process-safe\", found \"none\""]
    );
    assert_eq!(
        faults(TWO, &[("T2GATE_BACKEND__1__MEMORY_BUDGET", "5")]),
        [
            "T2GATE_BACKEND__1__MEMORY_BUDGET: backend.1.memory_budget: must be between 8388608 and 1099511627776, found 5"
        ]
    );
    let misspelt = faults(&TWO.replace("durability", "durabilty"), &[]);
    assert!(
        misspelt[0].starts_with("t2gate.toml: backend.1.durabilty: unknown key; known here are name, kind,"),
        "{misspelt:?}"
    );
    assert_eq!(misspelt.len(), 1);
    let unknown = faults("[bakend]\n", &[]);
    assert!(
        unknown[0].contains("backend, bucket, log") && !unknown[0].contains("[]"),
        "{unknown:?}"
    );
    assert_eq!(
        faults("[bucket]\nname = \"logs\"", &[]),
        ["t2gate.toml: bucket: expected a list ([[...]] in the file), found a section"]
    );
}

#[test]
fn a_variable_without_a_number_beside_a_list_is_refused() {
    let found = faults(TWO, &[("T2GATE_BACKEND__ROOT", "/srv/x")]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("T2GATE_BACKEND__ROOT: backend.root: there are [[backend]] entries: say which"),
        "{found:?}"
    );
    let found = faults(
        TWO,
        &[("T2GATE_BACKEND__3__NAME", "x"), ("T2GATE_BACKEND__3__KIND", "memory")],
    );
    assert!(found[0].contains("backend.3: there is no number 2"), "{found:?}");
    assert_eq!(faults("backend = []", &[]), ["t2gate.toml: backend: is empty"]);
}

/// The key under which the list is kept is nobody else's.
#[test]
fn the_list_has_no_other_name() {
    let quoted = faults("[\"backend[]\".0]\nname = \"x\"", &[]);
    assert!(quoted.len() == 1 && quoted[0].contains("unknown key"), "{quoted:?}");
    let found = faults("", &[("T2GATE_BACKEND[]__0__NAME", "x")]);
    assert!(found[0].contains("unknown variable"), "{found:?}");
}

#[test]
fn backends_have_names_and_no_two_the_same() {
    let found = faults(&TWO.replace("name = \"archive\"", "name = \"main\""), &[]);
    assert_eq!(found, ["t2gate.toml: backend.1.name: backend.0 is called \"main\" too"]);
    let found = faults(&TWO.replace("    name = \"archive\"\n", ""), &[]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("t2gate.toml: backend.1.name: is missing"),
        "{found:?}"
    );
    let found = faults(&TWO.replace("\"archive\"", "\"an archive\""), &[]);
    assert!(
        found[0].starts_with("t2gate.toml: backend.1.name: expected 1 to 32"),
        "{found:?}"
    );
}

#[test]
fn a_bucket_entry_names_a_backend_and_could_match() {
    let with = |entries: &[(&str, &str)]| {
        let backends = TWO.split("    [[bucket]]").next().unwrap().to_owned();
        entries.iter().fold(backends, |text, (name, backend)| {
            format!("{text}[[bucket]]\nname = {name:?}\nbackend = {backend:?}\n")
        })
    };
    assert_eq!(
        faults(&with(&[("logs-*", "archiv"), ("Logs", "archive")]), &[]),
        [
            "t2gate.toml: bucket.0.backend: expected the name of a backend: main, archive, found \"archiv\"",
            "t2gate.toml: bucket.1.name: expected the name of a bucket, or a pattern for names with '*' and '?', \
             found \"Logs\"",
        ]
    );
    for (first, second) in [
        ("logs-*", "logs-2026"),
        ("logs-*", "logs-*"),
        ("*", "data"),
        ("*-a*", "b-a?"),
    ] {
        let found = faults(&with(&[(first, "archive"), (second, "main")]), &[]);
        assert_eq!(
            found,
            [format!(
                "t2gate.toml: bucket.1.name: never matches: bucket.0, \"{first}\", takes all that it could"
            )]
        );
    }
    assert_eq!(
        faults(&with(&[]), &[]),
        ["t2gate.toml: backend.1: no bucket can be in \"archive\": no [[bucket]] gives it one"]
    );
    assert_eq!(
        faults(&with(&[("*", "archive")]), &[]),
        ["t2gate.toml: backend.0: no bucket can be in \"main\": no [[bucket]] gives it one"]
    );
    load(&with(&[("data", "main"), ("*", "archive")]), &[], None).unwrap();
    let found = faults("[[bucket]]\nname = \"logs\"\nbackend = \"archive\"", &[]);
    assert_eq!(
        found,
        ["t2gate.toml: bucket.0.backend: expected the name of a backend: fs, found \"archive\""]
    );
}

#[test]
fn two_backends_do_not_share_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a");
    fs::create_dir(&root).unwrap();
    symlink(&root, dir.path().join("link")).unwrap();
    let at = |path: &str| dir.path().join(path).display().to_string();
    let two = |first: &str, second: &str| TWO.replace("/srv/main", first).replace("/srv/archive", second);
    for (first, second) in [
        (at("a"), at("a")),
        (at("a"), at("a/")),
        (at("a"), at("./b/../a")),
        (at("a"), at("link")),
        (at("a"), at("link/not/yet/there")),
        (at("a/b"), at("a")),
        ("./t2-data".to_owned(), "t2-data".to_owned()),
    ] {
        let found = faults(&two(&first, &second), &[]);
        assert_eq!(found.len(), 1, "{first} {second}: {found:?}");
        let expected = format!("t2gate.toml: backend.1.root: {second} is the root of backend.0, or one is inside");
        assert!(found[0].starts_with(&expected), "{found:?}");
    }
    load(&two(&at("a"), &at("ab")), &[], None).unwrap();
    // What keeps nothing in its root shares nothing.
    let memory = two(&at("a"), &at("a")).replace("durability", "kind = \"memory\"\n durability");
    load(&memory, &[], None).unwrap();
}

#[test]
fn a_store_in_a_list_has_its_options_and_is_named_once() {
    let store = |name: &str, service: &str, options: &str| {
        format!(
            "[[backend]]\nname = \"{name}\"\nkind = \"opendal\"\nservice = \"{service}\"\noptions = {{ {options} }}\n"
        )
    };
    let two = |service: &str, first: &str, second: &str| {
        let (first, second) = (store("main", service, first), store("archive", service, second));
        format!("{first}{second}[[bucket]]\nname = \"logs-*\"\nbackend = \"archive\"\n")
    };
    let variables = [("T2GATE_BACKEND__1__OPTIONS__SECRET_ACCESS_KEY", "secret")];
    let config = load(&two("s3", "bucket = \"a\"", "bucket = \"b\""), &variables, None).unwrap();
    let archive = &config.backends.others[0];
    assert_eq!((archive.kind, &*archive.store.service), (BackendKind::Opendal, "s3"));
    let expected = [("bucket", "b"), ("secret_access_key", "secret")];
    assert_eq!(
        archive.store.options.0,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    for (first, second) in [
        ("bucket = \"a\"", "bucket = \"a\""),
        ("bucket = \"a\"", "bucket = \"a\", root = \"/x\""),
        ("bucket = \"a\", root = \"x/y/\"", "root = \"/x\", bucket = \"a\""),
    ] {
        let found = faults(&two("s3", first, second), &[]);
        assert_eq!(found.len(), 1, "{first} {second}: {found:?}");
        assert!(
            found[0].starts_with("t2gate.toml: backend.1.options: name the store of backend.0"),
            "{found:?}"
        );
    }
    for (first, second) in [
        ("bucket = \"a\"", "bucket = \"b\""),
        ("bucket = \"a\", root = \"/x\"", "bucket = \"a\", root = \"/xy\""),
        ("bucket = \"a\", root = \"/x\"", "bucket = \"b\", root = \"/x\""),
    ] {
        load(&two("s3", first, second), &[], None).unwrap();
    }
    // Each is a store of its own.
    load(&two("memory", "", ""), &[], None).unwrap();
    let wrong = TWO.replace("durability = \"process-safe\"", "kind = \"opendal\"");
    let found = faults(&wrong, &[]);
    assert!(
        found[0].starts_with("t2gate.toml: backend.1.service: is missing: one of "),
        "{found:?}"
    );
}

#[test]
fn an_account_that_adopts_is_looked_for_in_each_backend() {
    let adopting = TWO.replace("durability", "adopt_account = \"nobody\"\n durability");
    assert_eq!(
        faults(&adopting, &[]),
        ["t2gate.toml: backend.1.adopt_account: there is no account \"nobody\""]
    );
}

#[test]
fn what_was_there_belongs_to_whom_its_entry_says() {
    const ACCOUNTS: &str = r#"
        [[account]]
        id = "ops"
        key = [{ id = "OPS00000000000000001", secret = "a-secret-of-forty-characters-for-testing", kind = "master" }]
        [[account]]
        id = "web"
        key = [{ id = "WEB00000000000000001", secret = "a-secret-of-forty-characters-for-testing", kind = "master" }]
    "#;
    let owners = |toml: &str| {
        let backends = load(&format!("{toml}{ACCOUNTS}"), &[], None).unwrap().backends;
        let owner = |bucket: &str| {
            let bucket = BucketName::parse(bucket).unwrap();
            let mut owners = backends.iter().map(|backend| backend.adoption.owner(&bucket));
            let owner = owners.next().unwrap().map(|id| id.as_str().to_owned());
            assert!(owners.all(|other| other.map(AccountId::as_str) == owner.as_deref()));
            (owner.unwrap_or_default(), backends.routes.store_of(&bucket))
        };
        ["logs-old", "logs-new", "data"].map(owner)
    };
    let of = |owner: &str, store| (owner.to_owned(), store);
    // One backend: there is no need to name it.
    let one = "[backend]\nadopt_account = \"web\"\n[[bucket]]\nname = \"logs-*\"\naccount = \"ops\"\n";
    assert_eq!(owners(one), [of("ops", 0), of("ops", 0), of("web", 0)]);
    let none = one.replace("adopt_account = \"web\"", "");
    assert_eq!(owners(&none), [of("ops", 0), of("ops", 0), of("", 0)]);
    // The first entry that matches counts in all that it says, and does not say.
    let several = "[[backend]]\nname = \"main\"\nroot = \"a\"\n[[backend]]\nname = \"archive\"\nroot = \"b\"\n\
                   [[bucket]]\nname = \"logs-old\"\nbackend = \"archive\"\n\
                   [[bucket]]\nname = \"logs-*\"\nbackend = \"archive\"\naccount = \"ops\"\n\
                   [[bucket]]\nname = \"*\"\naccount = \"web\"\n";
    assert_eq!(owners(several), [of("", 1), of("ops", 1), of("web", 0)]);
}

#[test]
fn an_entry_for_buckets_says_where_they_lie_or_whose_they_are() {
    for (entry, key) in [
        ("name = \"logs\"", "bucket.0.backend"),
        (
            "name = \"logs\"\nbackend = \"nowhere\"\naccount = \"default\"",
            "bucket.0.backend",
        ),
        ("name = \"logs\"\naccount = \"no account!\"", "bucket.0.account"),
        ("name = \"logs\"\naccount = \"\"", "bucket.0.account"),
    ] {
        let found = faults(&format!("[[bucket]]\n{entry}\n"), &[]);
        assert!(found.len() == 1 && found[0].contains(key), "{entry}: {found:?}");
    }
}

/// What stands behind `#   ` in the example, as a reader would take it over.
#[test]
fn the_example_of_several_backends_loads() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../config.example.toml");
    let example = fs::read_to_string(example).unwrap();
    let start = example.find("#   [[backend]]").expect("an example of several backends");
    let lines = example[start..].lines().take_while(|line| line.starts_with('#'));
    let text: Vec<&str> = lines.filter_map(|line| line.strip_prefix("#   ")).collect();
    let backends = load(&text.join("\n"), &[], None).unwrap().backends;
    assert_eq!(backends.iter().count(), 2);
}
