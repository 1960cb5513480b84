//! The key file of a gateway that was given no accounts: `<data>/.t2/keys.toml`, made once, readable by its owner only.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use t2gate_backends::Timestamp;

use super::KeyTable;
use crate::config::{self, ConfigError, DEFAULT_ACCOUNT};

/// The keys of the file, and what was made for it just now.
#[derive(Debug)]
pub struct KeyFile {
    pub path: PathBuf,
    pub table: KeyTable,
    /// Set where the file did not exist before: the one time that the secret can be shown.
    pub made: Option<MadeKey>,
}

/// An application key that was made just now.
#[derive(Debug)]
pub struct MadeKey {
    pub id: String,
    pub secret: SecretString,
}

/// The key file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

/// Reads the file in `directory`, or makes it: one account with a master key and an application key for everything.
pub fn open_or_make(directory: &Path, now: Timestamp) -> Result<KeyFile, KeyFileError> {
    let path = directory.join("keys.toml");
    let mut made = None;
    match fs::metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let master = make_key()?;
            let application = make_key()?;
            let text = render(&master, &application, now);
            match write(&path, text.as_bytes(), 0o600, |staged, path| {
                fs::hard_link(staged, path)?;
                fs::remove_file(staged)
            }) {
                Ok(()) => made = Some(application),
                // Another process was first: its keys are the keys.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(KeyFileError::Io {
                        what: "write",
                        path,
                        source,
                    });
                }
            }
        }
        Err(source) => {
            return Err(KeyFileError::Io {
                what: "read",
                path,
                source,
            });
        }
    }
    let table = config::read_key_file(&path)?;
    Ok(KeyFile { path, table, made })
}

/// Writes a file that nobody else can read, in one step: whoever looks sees all of it or what was there before. It
/// and its name are on the disk when this returns.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    write(path, contents, 0o600, |staged, path| fs::rename(staged, path))
}

/// As [`write_private`], but readable by everybody whom the directory lets in.
pub fn write_public(path: &Path, contents: &[u8]) -> io::Result<()> {
    write(path, contents, 0o644, |staged, path| fs::rename(staged, path))
}

/// `publish` gives the staged file its name.
fn write(
    path: &Path,
    contents: &[u8],
    mode: u32,
    publish: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}.tmp", std::process::id()));
    let staged = PathBuf::from(staged);
    let written = (|| {
        // A leftover of a process of the same number is ours to replace, but not to write into: its mode may differ.
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&staged)?;
        file.write_all(contents)?;
        file.sync_all()?;
        publish(&staged, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // The first failure is what matters; a leftover is replaced the next time.
        drop(fs::remove_file(&staged));
    }
    written
}

fn render(master: &MadeKey, application: &MadeKey, now: Timestamp) -> String {
    use secrecy::ExposeSecret as _;

    let created = jiff::Timestamp::from_second(now.unix_seconds()).unwrap_or_default();
    let mut text = format!(
        "# Made by t2gate, for no accounts were configured. Whoever reads this file can read and destroy every object.\n\
         # The form is that of [[account]] in the configuration.\n\n\
         [[account]]\nid = \"{DEFAULT_ACCOUNT}\"\n"
    );
    for (key, kind, capabilities) in [
        (master, "master", ""),
        (application, "global", "capabilities = [\"all\"]\n"),
    ] {
        let written = write!(
            text,
            "\n[[account.key]]\nid = \"{}\"\nsecret = \"{}\"\nkind = \"{kind}\"\n{capabilities}created = \"{created}\"\n",
            key.id,
            key.secret.expose_secret(),
        );
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

/// An id of `T2` and 18 capital letters and digits, and a secret of 40 characters of base64: 240 bits.
fn make_key() -> Result<MadeKey, KeyFileError> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(KeyFileError::Random)?;
    let id = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let id = "T2".chars().chain(id).collect();
    let mut random = [0; 30];
    getrandom::fill(&mut random).map_err(KeyFileError::Random)?;
    Ok(MadeKey {
        id,
        secret: STANDARD.encode(random).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::keys::{Capability, KeyKind, KeyStore};

    #[test]
    fn keys_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix(1_800_000_000, 0);
        let first = open_or_make(dir.path(), now).unwrap();
        let made = first.made.expect("made now");
        assert_eq!(made.id.len(), 20);
        assert!(made.id.starts_with("T2"));
        assert_eq!(made.secret.expose_secret().len(), 40);

        let second = open_or_make(dir.path(), now).unwrap();
        assert!(second.made.is_none());
        let keys = KeyStore::new(second.table);
        let key = keys.lookup(&made.id).expect("found again");
        assert_eq!(key.secret.expose_secret(), made.secret.expose_secret());
        assert_eq!((key.kind, key.account.as_str()), (KeyKind::Global, "default"));
        assert_eq!(key.created, Some(now));
        assert!(Capability::ALL.into_iter().all(|capability| key.allows(capability)));
    }

    #[test]
    fn there_is_a_master_key_beside_the_application_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_or_make(dir.path(), Timestamp::from_unix(0, 0)).unwrap();
        let masters = file.table.keys().filter(|key| key.kind == KeyKind::Master).count();
        assert_eq!((masters, file.table.keys().count()), (1, 2));
    }

    #[test]
    fn the_key_file_is_its_owners_alone_and_leaves_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_or_make(dir.path(), Timestamp::from_unix(0, 0)).unwrap();
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        for damaged in ["", "[[account]]\nid = \"default\"\n", "secret = \"hunter2hunter2"] {
            fs::write(&path, damaged).unwrap();
            let error = open_or_make(dir.path(), Timestamp::from_unix(0, 0))
                .unwrap_err()
                .to_string();
            assert!(error.contains("keys.toml") && !error.contains("hunter2"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }
}
