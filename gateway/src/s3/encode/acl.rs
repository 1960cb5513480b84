//! Access control lists.

use http::Response;
use t2gate_backends::{AccountId, CannedAcl};

use super::{ResponseBody, document, write_account};
use crate::s3::xml::{ALL_USERS, XSI, writer::XmlWriter};

/// GetBucketAcl and GetObjectAcl: an object has its bucket's.
pub fn get_acl(owner: &AccountId, acl: CannedAcl) -> Response<ResponseBody> {
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
