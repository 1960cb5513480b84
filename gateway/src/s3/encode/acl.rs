//! Access control lists.

use http::Response;
use t2gate_backends::{AccountId, CannedAcl, VersionId};

use super::{ResponseBody, document, set_version, write_account};
use crate::s3::xml::{ALL_USERS, XSI, writer::XmlWriter};

/// GetObjectAcl: an object has its bucket's.
pub fn get_object_acl(owner: &AccountId, acl: CannedAcl, version_id: Option<&VersionId>) -> Response<ResponseBody> {
    let mut response = get_bucket_acl(owner, acl);
    set_version(response.headers_mut(), version_id);
    response
}

/// GetBucketAcl.
pub fn get_bucket_acl(owner: &AccountId, acl: CannedAcl) -> Response<ResponseBody> {
    document("AccessControlPolicy", |xml| {
        write_account(xml, "Owner", owner);
        xml.element("AccessControlList", |xml| {
            grant(xml, "CanonicalUser", "FULL_CONTROL", |xml| {
                xml.text("ID", owner.as_str());
                xml.text("DisplayName", owner.as_str());
            });
            match acl {
                CannedAcl::Private => {}
                CannedAcl::PublicRead => grant(xml, "Group", "READ", |xml| xml.text("URI", ALL_USERS)),
            }
        });
    })
}

fn grant(xml: &mut XmlWriter, kind: &str, permission: &str, grantee: impl FnOnce(&mut XmlWriter)) {
    xml.element("Grant", |xml| {
        xml.element_with("Grantee", &[("xmlns:xsi", XSI), ("xsi:type", kind)], grantee);
        xml.text("Permission", permission);
    });
}
