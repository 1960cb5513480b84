//! Accounts and application keys: load, reload, look up, capabilities.
//!
//! Keys come from the configuration (`config/accounts.rs`) or from the key file that the gateway makes for itself
//! ([`mod@file`]). What a request may do with a key is asked here and decided in the authorize layer.

pub mod file;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use t2gate_backends::{AccountId, BucketName, Timestamp};

use crate::rate_limit::KeyLimits;

/// What an application key may do, in the words that users of this family of services know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    ListBuckets,
    ReadBuckets,
    WriteBuckets,
    DeleteBuckets,
    ReadBucketEncryption,
    WriteBucketEncryption,
    ReadBucketRetentions,
    WriteBucketRetentions,
    ListFiles,
    ReadFiles,
    WriteFiles,
    DeleteFiles,
    ReadFileRetentions,
    WriteFileRetentions,
    ReadFileLegalHolds,
    WriteFileLegalHolds,
    BypassGovernance,
}

impl Capability {
    /// Every capability, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::ListBuckets,
        Self::ReadBuckets,
        Self::WriteBuckets,
        Self::DeleteBuckets,
        Self::ReadBucketEncryption,
        Self::WriteBucketEncryption,
        Self::ReadBucketRetentions,
        Self::WriteBucketRetentions,
        Self::ListFiles,
        Self::ReadFiles,
        Self::WriteFiles,
        Self::DeleteFiles,
        Self::ReadFileRetentions,
        Self::WriteFileRetentions,
        Self::ReadFileLegalHolds,
        Self::WriteFileLegalHolds,
        Self::BypassGovernance,
    ];

    /// The name as users write and read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListBuckets => "listBuckets",
            Self::ReadBuckets => "readBuckets",
            Self::WriteBuckets => "writeBuckets",
            Self::DeleteBuckets => "deleteBuckets",
            Self::ReadBucketEncryption => "readBucketEncryption",
            Self::WriteBucketEncryption => "writeBucketEncryption",
            Self::ReadBucketRetentions => "readBucketRetentions",
            Self::WriteBucketRetentions => "writeBucketRetentions",
            Self::ListFiles => "listFiles",
            Self::ReadFiles => "readFiles",
            Self::WriteFiles => "writeFiles",
            Self::DeleteFiles => "deleteFiles",
            Self::ReadFileRetentions => "readFileRetentions",
            Self::WriteFileRetentions => "writeFileRetentions",
            Self::ReadFileLegalHolds => "readFileLegalHolds",
            Self::WriteFileLegalHolds => "writeFileLegalHolds",
            Self::BypassGovernance => "bypassGovernance",
        }
    }

    /// The capability of that name, in exactly that spelling.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySet(u32);

impl CapabilitySet {
    /// Every capability that there is.
    pub fn all() -> Self {
        Capability::ALL.into_iter().collect()
    }

    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL
            .into_iter()
            .filter(move |&capability| self.contains(capability))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(
            capabilities
                .into_iter()
                .fold(0, |bits, capability| bits | capability.bit()),
        )
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::as_str)).finish()
    }
}

/// How far a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The account's own key. The S3 API refuses it, whatever is asked.
    Master,
    /// Every bucket of the account.
    Global,
    /// Only the buckets that the key names.
    Restricted,
}

impl KeyKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Global => "global",
            Self::Restricted => "restricted",
        }
    }
}

/// An account: it owns buckets and has keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    /// What `DisplayName` says; the id where there is none.
    pub name: Option<Box<str>>,
    /// Overrides `s3.max_buckets_per_account`.
    pub max_buckets: Option<u32>,
}

/// A key of an account, with its secret. `Debug` does not show the secret, which is wiped when the key is dropped.
#[derive(Debug, Clone)]
pub struct ApplicationKey {
    /// What S3 calls the access key id.
    pub id: Box<str>,
    /// What S3 calls the secret access key.
    pub secret: SecretString,
    pub name: Option<Box<str>>,
    pub account: AccountId,
    pub kind: KeyKind,
    /// The buckets of a restricted key; empty for the other kinds, which are not bound by it.
    pub buckets: Vec<BucketName>,
    /// Only keys that start so can be reached.
    pub prefix: Option<Box<str>>,
    pub capabilities: CapabilitySet,
    /// From then on the key is refused.
    pub expires: Option<Timestamp>,
    pub created: Option<Timestamp>,
    pub revoked: bool,
    /// Overrides what `[rate_limit]` says of keys.
    pub rate_limit: KeyLimits,
}

impl ApplicationKey {
    /// The key exists for the S3 API at `now`: neither revoked nor expired. (A master key is current too, and refused
    /// for what it is, after its signature was verified.)
    pub fn is_current(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires.is_none_or(|expires| now < expires)
    }

    pub fn allows(&self, capability: Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// The key is not restricted to other buckets. Whether the bucket is the account's is another question.
    pub fn reaches_bucket(&self, bucket: &BucketName) -> bool {
        match self.kind {
            KeyKind::Master | KeyKind::Global => true,
            KeyKind::Restricted => self.buckets.contains(bucket),
        }
    }

    /// `key` (or the prefix of a listing) starts with the key-name prefix that this application key is restricted to.
    pub fn reaches_key(&self, key: &str) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
    }
}

/// Accounts and keys as they are at one moment.
#[derive(Debug, Clone, Default)]
pub struct KeyTable {
    accounts: BTreeMap<AccountId, Arc<Account>>,
    keys: HashMap<Box<str>, Arc<ApplicationKey>>,
}

/// A table would not be one: two of something that has to be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyTable {
    #[error("there are two accounts \"{0}\"")]
    DuplicateAccount(AccountId),
    #[error("there are two keys \"{0}\"")]
    DuplicateKey(Box<str>),
    #[error("account \"{0}\" has two master keys")]
    TwoMasterKeys(AccountId),
    #[error("key \"{0}\" belongs to no account")]
    NoAccount(Box<str>),
}

impl KeyTable {
    /// Account ids and key ids have to be unique, each key's account must exist, and it has one master key at most.
    pub fn new(accounts: Vec<Account>, keys: Vec<ApplicationKey>) -> Result<Self, InvalidKeyTable> {
        let mut table = Self::default();
        for account in accounts {
            let id = account.id.clone();
            if table.accounts.insert(id.clone(), Arc::new(account)).is_some() {
                return Err(InvalidKeyTable::DuplicateAccount(id));
            }
        }
        for key in keys {
            if !table.accounts.contains_key(&key.account) {
                return Err(InvalidKeyTable::NoAccount(key.id));
            }
            let second = |other: &Arc<ApplicationKey>| other.kind == KeyKind::Master && other.account == key.account;
            if key.kind == KeyKind::Master && table.keys.values().any(second) {
                return Err(InvalidKeyTable::TwoMasterKeys(key.account));
            }
            let id = key.id.clone();
            if table.keys.insert(id.clone(), Arc::new(key)).is_some() {
                return Err(InvalidKeyTable::DuplicateKey(id));
            }
        }
        Ok(table)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// In no order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApplicationKey>> {
        self.keys.values()
    }
}

/// The accounts and keys in force; they can be replaced while requests are running.
#[derive(Debug)]
pub struct KeyStore(ArcSwap<KeyTable>);

impl KeyStore {
    pub fn new(table: KeyTable) -> Self {
        Self(ArcSwap::from_pointee(table))
    }

    /// The key of that id, whatever its kind and state: revoked and expired keys too.
    pub fn lookup(&self, access_key_id: &str) -> Option<Arc<ApplicationKey>> {
        self.0.load().keys.get(access_key_id).cloned()
    }

    pub fn account(&self, id: &AccountId) -> Option<Arc<Account>> {
        self.0.load().accounts.get(id).cloned()
    }

    /// All accounts, by id.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.0.load().accounts().cloned().collect()
    }

    /// Puts another table in force, in one step. Requests that have looked up their key go on with it.
    pub fn replace(&self, table: KeyTable) {
        self.0.store(Arc::new(table));
    }
}

/// A text that can be an access key id: 3 to 128 ASCII letters, digits, `-`, `_` and `.`, none of which has a meaning
/// in a credential scope or in a header.
pub(crate) fn is_access_key_id(text: &str) -> bool {
    (3..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A text that can be a secret: 8 to 128 visible ASCII characters.
pub(crate) fn is_secret(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> Account {
        Account {
            id: AccountId::parse(id).unwrap(),
            name: None,
            max_buckets: None,
        }
    }

    fn key(id: &str, account: &str, kind: KeyKind) -> ApplicationKey {
        ApplicationKey {
            id: id.into(),
            secret: "very-secret-indeed".into(),
            name: None,
            account: AccountId::parse(account).unwrap(),
            kind,
            buckets: Vec::new(),
            prefix: None,
            capabilities: CapabilitySet::all(),
            expires: None,
            created: None,
            revoked: false,
            rate_limit: KeyLimits::default(),
        }
    }

    #[test]
    fn every_capability_parses_back_from_its_name() {
        for capability in Capability::ALL {
            assert_eq!(Capability::parse(capability.as_str()), Some(capability));
        }
        assert_eq!(Capability::parse("listbuckets"), None);
        assert_eq!(Capability::parse(""), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        for one in Capability::ALL {
            let set: CapabilitySet = [one].into_iter().collect();
            for other in Capability::ALL {
                assert_eq!(set.contains(other), one == other);
            }
        }
        assert_eq!(CapabilitySet::all().iter().count(), Capability::ALL.len());
        assert!(CapabilitySet::default().is_empty());
    }

    #[test]
    fn a_restricted_key_reaches_its_buckets_and_its_prefix_only() {
        let bucket = |name: &str| BucketName::parse(name).unwrap();
        let mut restricted = key("abc", "one", KeyKind::Restricted);
        assert!(!restricted.reaches_bucket(&bucket("logs")));
        restricted.buckets = vec![bucket("logs")];
        assert!(restricted.reaches_bucket(&bucket("logs")));
        assert!(!restricted.reaches_bucket(&bucket("logs2")));
        assert!(key("abc", "one", KeyKind::Global).reaches_bucket(&bucket("logs2")));

        assert!(restricted.reaches_key("anything"));
        restricted.prefix = Some("a/".into());
        assert!(restricted.reaches_key("a/b"));
        assert!(!restricted.reaches_key("a"));
        assert!(!restricted.reaches_key(""));
    }

    #[test]
    fn a_key_ends_at_its_expiry_and_when_it_is_revoked() {
        let at = Timestamp::from_unix_nanos;
        let mut key = key("abc", "one", KeyKind::Global);
        assert!(key.is_current(at(i64::MAX)));
        key.expires = Some(at(10));
        assert!(key.is_current(at(9)));
        assert!(!key.is_current(at(10)));
        key.expires = None;
        key.revoked = true;
        assert!(!key.is_current(at(0)));
    }

    #[test]
    fn a_table_with_two_of_a_kind_is_refused() {
        let table = |accounts: &[&str], keys: Vec<ApplicationKey>| {
            KeyTable::new(accounts.iter().map(|id| account(id)).collect(), keys).unwrap_err()
        };
        let one = || AccountId::parse("one").unwrap();
        assert_eq!(table(&["one", "one"], vec![]), InvalidKeyTable::DuplicateAccount(one()));
        let global = || key("abc", "one", KeyKind::Global);
        assert_eq!(
            table(&["one"], vec![global(), global()]),
            InvalidKeyTable::DuplicateKey("abc".into())
        );
        assert_eq!(
            table(&["two"], vec![global()]),
            InvalidKeyTable::NoAccount("abc".into())
        );
        let masters = vec![key("m01", "one", KeyKind::Master), key("m02", "one", KeyKind::Master)];
        assert_eq!(table(&["one"], masters), InvalidKeyTable::TwoMasterKeys(one()));
    }

    #[test]
    fn a_replaced_table_is_what_lookups_see() {
        let table = |id| KeyTable::new(vec![account("one")], vec![key(id, "one", KeyKind::Global)]).unwrap();
        let store = KeyStore::new(table("old"));
        assert!(store.lookup("old").is_some());
        store.replace(table("new"));
        assert!(store.lookup("old").is_none());
        assert!(store.lookup("new").is_some());
        assert_eq!(store.accounts().len(), 1);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let store =
            KeyStore::new(KeyTable::new(vec![account("one")], vec![key("abc", "one", KeyKind::Global)]).unwrap());
        let shown = format!("{store:?} {:?}", store.lookup("abc"));
        assert!(shown.contains("abc"));
        assert!(!shown.contains("very-secret"), "{shown}");
    }
}
