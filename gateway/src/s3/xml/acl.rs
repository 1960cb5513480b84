//! `AccessControlPolicy`, as far as a canned ACL says the same.

use t2gate_backends::{AccountId, CannedAcl};

use super::{ALL_USERS, reader::XmlReader, set};
use crate::s3::S3Error;

/// The canned ACL that says exactly what the document says, on a bucket of `owner`. Errors: `MalformedXML`; 501 for
/// any other policy.
pub fn parse_access_control_policy(body: &[u8], owner: &AccountId) -> Result<CannedAcl, S3Error> {
    let mut reader = XmlReader::open(body, "AccessControlPolicy")?;
    let mut policy_owner = None;
    let mut grants = None;
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "Owner" => set(&mut policy_owner, read_owner(&mut reader)?)?,
            "AccessControlList" => set(&mut grants, read_grants(&mut reader, owner)?)?,
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    reader.finish()?;
    let grants = grants.ok_or_else(S3Error::malformed_xml)?;
    let owner_is_right = policy_owner.flatten().is_none_or(|id| id == owner.as_str());
    match grants {
        Grants {
            owner: true,
            everybody,
            other: false,
        } if owner_is_right => Ok(if everybody {
            CannedAcl::PublicRead
        } else {
            CannedAcl::Private
        }),
        _ => Err(S3Error::not_implemented(
            "Only what the canned ACLs private and public-read say is implemented.",
        )),
    }
}

/// What the grants come to. A grant that stands there twice says nothing new.
#[derive(Debug, Default)]
struct Grants {
    /// FULL_CONTROL to the owner.
    owner: bool,
    /// READ to everybody.
    everybody: bool,
    /// Anything else.
    other: bool,
}

#[derive(Debug, Default)]
struct Grantee {
    kind: Option<String>,
    id: Option<String>,
    uri: Option<String>,
    email: bool,
}

fn read_owner(reader: &mut XmlReader<'_>) -> Result<Option<String>, S3Error> {
    let (mut id, mut display_name) = (None, None);
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "ID" => set(&mut id, reader.word()?)?,
            "DisplayName" => set(&mut display_name, reader.text()?)?,
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    Ok(id)
}

fn read_grants(reader: &mut XmlReader<'_>, owner: &AccountId) -> Result<Grants, S3Error> {
    let mut grants = Grants::default();
    while let Some(element) = reader.child()? {
        if element.name != "Grant" {
            return Err(S3Error::malformed_xml());
        }
        let (mut grantee, mut permission) = (None, None);
        while let Some(element) = reader.child()? {
            match element.name.as_str() {
                "Grantee" => set(&mut grantee, read_grantee(reader, element.xsi_type)?)?,
                "Permission" => set(&mut permission, reader.word()?)?,
                _ => return Err(S3Error::malformed_xml()),
            }
        }
        let grantee = grantee.ok_or_else(S3Error::malformed_xml)?;
        let permission = permission.ok_or_else(S3Error::malformed_xml)?;
        let is_owner = grantee.is("CanonicalUser", grantee.id.as_deref(), owner.as_str()) && grantee.uri.is_none();
        let is_everybody = grantee.is("Group", grantee.uri.as_deref(), ALL_USERS) && grantee.id.is_none();
        match permission.as_str() {
            "FULL_CONTROL" if is_owner => grants.owner = true,
            "READ" if is_everybody => grants.everybody = true,
            "FULL_CONTROL" | "READ" | "READ_ACP" | "WRITE" | "WRITE_ACP" => grants.other = true,
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    Ok(grants)
}

impl Grantee {
    fn is(&self, kind: &str, actual: Option<&str>, expected: &str) -> bool {
        self.kind.as_deref() == Some(kind) && !self.email && actual == Some(expected)
    }
}

fn read_grantee(reader: &mut XmlReader<'_>, xsi_type: Option<String>) -> Result<Grantee, S3Error> {
    let mut grantee = Grantee {
        kind: xsi_type,
        ..Grantee::default()
    };
    let mut display_name = None;
    while let Some(element) = reader.child()? {
        match element.name.as_str() {
            "ID" => set(&mut grantee.id, reader.word()?)?,
            "URI" => set(&mut grantee.uri, reader.word()?)?,
            "Type" => set(&mut grantee.kind, reader.word()?)?,
            "DisplayName" => set(&mut display_name, reader.text()?)?,
            "EmailAddress" => {
                reader.text()?;
                grantee.email = true;
            }
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    Ok(grantee)
}
