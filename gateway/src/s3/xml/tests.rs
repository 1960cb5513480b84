use proptest::prelude::*;
use t2gate_backends::{AccountId, CannedAcl, ChecksumAlgorithm, IfMatch, VersioningStatus};

use super::{writer::XmlWriter, *};
use crate::{dialect::Dialect, s3::S3ErrorCode};

fn owner() -> AccountId {
    AccountId::parse("acme").unwrap()
}

fn delete(body: impl AsRef<[u8]>) -> Result<Delete, S3ErrorCode> {
    parse_delete(body.as_ref(), Dialect::T2).map_err(|error| error.code())
}

fn delete_of(objects: &str) -> Result<Delete, S3ErrorCode> {
    delete(format!("<Delete>{objects}</Delete>"))
}

fn complete(body: &str) -> Result<Vec<t2gate_backends::CompletedPart>, S3ErrorCode> {
    parse_complete_multipart_upload(body.as_bytes()).map_err(|error| error.code())
}

fn complete_of(parts: &str) -> Result<Vec<t2gate_backends::CompletedPart>, S3ErrorCode> {
    complete(&format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"))
}

fn keys(delete: Delete) -> Vec<String> {
    delete.objects.into_iter().map(|entry| entry.key).collect()
}

#[test]
fn keys_to_delete_are_read_verbatim() {
    let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- c -->\
        <Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Quiet> true </Quiet>\n\
        <Object><Key> a b </Key></Object>\n<Object><VersionId>null</VersionId><Key>x&amp;&lt;&gt;&quot;&apos;&#228;&#xe4;</Key></Object>\
        <Object><Key><![CDATA[<ä>&amp;]]></Key><ETag>&quot;abc&quot;</ETag></Object></Delete>\n <!-- d -->";
    let delete = delete(body).unwrap();
    assert!(delete.quiet);
    assert_eq!(delete.objects[1].version_id.as_deref(), Some("null"));
    let target = delete.objects[2].target.as_ref().unwrap();
    assert!(matches!(&target.condition.if_match, Some(IfMatch::OneOf(tags)) if tags[0].as_str() == "abc"));
    assert_eq!(keys(delete), [" a b ", "x&<>\"'ää", "<ä>&amp;"]);
}

#[test]
fn namespace_prefixes_are_no_matter() {
    let delete = delete("<s3:Delete xmlns:s3='urn:x'><s3:Object><s3:Key>k</s3:Key></s3:Object></s3:Delete>").unwrap();
    assert!(!delete.quiet);
    assert_eq!(keys(delete), ["k"]);
}

#[test]
fn a_bad_object_spoils_itself_alone() {
    let long = "k".repeat(1025);
    let delete = delete_of(&format!(
        "<Object><Key>{long}</Key></Object><Object><Key>a&#1;b</Key></Object><Object><Key>k</Key></Object>\
         <Object><Key>k</Key><VersionId>a/b</VersionId></Object><Object><Key>k</Key><Size>1</Size></Object>"
    ))
    .unwrap();
    let codes: Vec<_> = delete
        .objects
        .iter()
        .map(|entry| entry.target.as_ref().err().map(S3Error::code))
        .collect();
    assert_eq!(
        codes,
        [
            Some(S3ErrorCode::KeyTooLongError),
            Some(S3ErrorCode::InvalidArgument),
            None,
            Some(S3ErrorCode::InvalidArgument),
            Some(S3ErrorCode::NotImplemented)
        ]
    );
}

#[test]
fn a_thousand_keys_go_and_one_more_does_not() {
    let object = "<Object><Key>k</Key></Object>";
    assert_eq!(delete_of(&object.repeat(1000)).unwrap().objects.len(), 1000);
    assert_eq!(delete_of(&object.repeat(1001)).unwrap_err(), S3ErrorCode::MalformedXML);
    assert_eq!(delete_of("").unwrap_err(), S3ErrorCode::MalformedXML);
}

#[test]
fn ten_thousand_parts_go_and_one_more_does_not() {
    let part = "<Part><PartNumber>1</PartNumber><ETag>\"a\"</ETag></Part>";
    assert_eq!(complete_of(&part.repeat(10_000)).unwrap().len(), 10_000);
    assert_eq!(complete_of(&part.repeat(10_001)), Err(S3ErrorCode::MalformedXML));
    assert_eq!(complete_of(""), Err(S3ErrorCode::MalformedXML));
}

#[test]
fn parts_carry_their_tag_and_checksum() {
    let parts = complete_of(
        "<Part><ETag>&quot;abc&quot;</ETag><PartNumber> 2 </PartNumber><ChecksumCRC32>NhCmhg==</ChecksumCRC32></Part>\
         <Part><PartNumber>3</PartNumber><ETag>abc</ETag></Part>",
    )
    .unwrap();
    assert_eq!((parts[0].part_number.get(), parts[0].etag.as_str()), (2, "abc"));
    assert_eq!(parts[0].checksum.as_ref().unwrap().algorithm, ChecksumAlgorithm::Crc32);
    assert_eq!((parts[1].etag.as_str(), &parts[1].checksum), ("abc", &None));
}

#[test]
fn bad_parts_have_their_codes() {
    let one = |inner: &str| complete_of(&format!("<Part>{inner}</Part>")).unwrap_err();
    assert_eq!(
        one("<PartNumber>0</PartNumber><ETag>a</ETag>"),
        S3ErrorCode::InvalidArgument
    );
    assert_eq!(
        one("<PartNumber>10001</PartNumber><ETag>a</ETag>"),
        S3ErrorCode::InvalidArgument
    );
    assert_eq!(
        one("<PartNumber>-1</PartNumber><ETag>a</ETag>"),
        S3ErrorCode::InvalidArgument
    );
    assert_eq!(
        one("<PartNumber>1</PartNumber><ETag>a b</ETag>"),
        S3ErrorCode::InvalidPart
    );
    assert_eq!(one("<PartNumber>1</PartNumber>"), S3ErrorCode::MalformedXML);
    assert_eq!(one("<ETag>a</ETag>"), S3ErrorCode::MalformedXML);
    let with = |element: &str| one(&format!("<PartNumber>1</PartNumber><ETag>a</ETag>{element}"));
    assert_eq!(with("<ETag>a</ETag>"), S3ErrorCode::MalformedXML);
    assert_eq!(with("<ChecksumCRC32>x</ChecksumCRC32>"), S3ErrorCode::InvalidRequest);
    assert_eq!(
        with("<ChecksumXXHASH64>x</ChecksumXXHASH64>"),
        S3ErrorCode::NotImplemented
    );
    assert_eq!(
        with("<Checksumcrc32>NhCmhg==</Checksumcrc32>"),
        S3ErrorCode::MalformedXML
    );
    assert_eq!(with("<Unknown/>"), S3ErrorCode::MalformedXML);
    assert_eq!(
        with("<ChecksumCRC32>NhCmhg==</ChecksumCRC32><ChecksumCRC64NVME>M3eFcAZSQlc=</ChecksumCRC64NVME>"),
        S3ErrorCode::MalformedXML
    );
}

#[test]
fn a_bucket_says_where_it_should_be() {
    let parse = |body: &str| parse_create_bucket_configuration(body.as_bytes()).map_err(|error| error.code());
    assert_eq!(parse(""), Ok(None));
    assert_eq!(parse("<CreateBucketConfiguration/>"), Ok(None));
    assert_eq!(
        parse("<CreateBucketConfiguration><LocationConstraint>eu-1</LocationConstraint></CreateBucketConfiguration>"),
        Ok(Some("eu-1".into()))
    );
    let with = |inner: &str| {
        parse(&format!(
            "<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>"
        ))
    };
    assert_eq!(with("<LocationConstraint/><Tags/>"), Ok(None));
    assert_eq!(with("<Tags><Tag/></Tags>"), Err(S3ErrorCode::NotImplemented));
    assert_eq!(
        with("<Location><Type>X</Type></Location>"),
        Err(S3ErrorCode::NotImplemented)
    );
    assert_eq!(with("<Bucket/>"), Err(S3ErrorCode::NotImplemented));
    assert_eq!(with("<Else/>"), Err(S3ErrorCode::MalformedXML));
    assert_eq!(
        with("<LocationConstraint>a</LocationConstraint><LocationConstraint>a</LocationConstraint>"),
        Err(S3ErrorCode::MalformedXML)
    );
}

const OWNER_GRANT: &str = "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
    xsi:type=\"CanonicalUser\"><ID>acme</ID><DisplayName>Acme</DisplayName></Grantee>\
    <Permission>FULL_CONTROL</Permission></Grant>";
const PUBLIC_GRANT: &str = "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
    xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>\
    <Permission>READ</Permission></Grant>";

#[test]
fn a_policy_is_taken_where_a_canned_acl_says_the_same() {
    let parse = |owner_element: &str, grants: &str| {
        let body = format!(
            "<AccessControlPolicy>{owner_element}<AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        );
        parse_access_control_policy(body.as_bytes(), &owner()).map_err(|error| error.code())
    };
    let me = "<Owner><ID>acme</ID><DisplayName>Acme</DisplayName></Owner>";
    let both = format!("{PUBLIC_GRANT}{OWNER_GRANT}");
    assert_eq!(parse(me, OWNER_GRANT), Ok(CannedAcl::Private));
    assert_eq!(parse("", OWNER_GRANT), Ok(CannedAcl::Private));
    assert_eq!(parse(me, &both), Ok(CannedAcl::PublicRead));
    for (owner_element, grants) in [
        (me, String::new()),
        (me, PUBLIC_GRANT.to_owned()),
        ("<Owner><ID>other</ID></Owner>", OWNER_GRANT.to_owned()),
        (me, OWNER_GRANT.replace("FULL_CONTROL", "READ")),
        (me, format!("{OWNER_GRANT}{}", OWNER_GRANT.replace("acme", "other"))),
        (me, both.replace("READ", "WRITE")),
        (me, both.replace("AllUsers", "AuthenticatedUsers")),
        (me, OWNER_GRANT.replace("xsi:type=\"CanonicalUser\"", "")),
        (
            me,
            OWNER_GRANT.replace("<ID>acme</ID>", "<ID>acme</ID><EmailAddress>a@b</EmailAddress>"),
        ),
    ] {
        assert_eq!(
            parse(owner_element, &grants),
            Err(S3ErrorCode::NotImplemented),
            "{owner_element}{grants}"
        );
    }
    assert_eq!(
        parse(me, &OWNER_GRANT.replace("FULL_CONTROL", "ALL")),
        Err(S3ErrorCode::MalformedXML)
    );
    assert_eq!(
        parse(me, "<Grant><Permission>READ</Permission></Grant>"),
        Err(S3ErrorCode::MalformedXML)
    );
    assert_eq!(
        parse_access_control_policy(b"<AccessControlPolicy/>", &owner())
            .unwrap_err()
            .code(),
        S3ErrorCode::MalformedXML
    );
}

#[test]
fn a_versioning_configuration_says_one_of_two_things() {
    use S3ErrorCode::{IllegalVersioningConfigurationException as Illegal, MalformedXML, NotImplemented};
    use VersioningStatus::{Enabled, Suspended};
    let parse = |content: &str| {
        let body = format!("<VersioningConfiguration xmlns='urn:x'>{content}</VersioningConfiguration>");
        parse_versioning_configuration(body.as_bytes()).map_err(|error| error.code())
    };
    for (content, expected) in [
        ("<Status>Enabled</Status>", Ok(Enabled)),
        ("\n <Status>Suspended</Status> <!-- c -->", Ok(Suspended)),
        ("<MfaDelete>Disabled</MfaDelete><Status>Enabled</Status>", Ok(Enabled)),
        ("<Status>Enabled</Status><MfaDelete/>", Ok(Enabled)),
        ("", Err(Illegal)),
        ("<Status></Status>", Err(Illegal)),
        ("<MfaDelete>Disabled</MfaDelete>", Err(Illegal)),
        (
            "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>",
            Err(NotImplemented),
        ),
        (
            "<Status>Suspended</Status><MFADelete>Enabled</MFADelete>",
            Err(NotImplemented),
        ),
        ("<MfaDelete>Enabled</MfaDelete>", Err(NotImplemented)),
        (
            "<Status>Enabled</Status><MfaDelete>enabled</MfaDelete>",
            Err(MalformedXML),
        ),
        (
            "<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete><MFADelete>Enabled</MFADelete>",
            Err(MalformedXML),
        ),
        ("<Status>enabled</Status>", Err(MalformedXML)),
        ("<Status> Enabled </Status>", Err(MalformedXML)),
        ("<Status>Disabled</Status>", Err(MalformedXML)),
        ("<Status>Enabled</Status><Status>Enabled</Status>", Err(MalformedXML)),
        ("<Status><b>Enabled</b></Status>", Err(MalformedXML)),
        ("<Status>Enabled</Status><Other/>", Err(MalformedXML)),
        ("Enabled", Err(MalformedXML)),
    ] {
        assert_eq!(parse(content), expected, "{content}");
    }
    for body in [
        "",
        "Enabled",
        "<Status>Enabled</Status>",
        "<Versioning><Status>Enabled</Status></Versioning>",
        "<versioningconfiguration><Status>Enabled</Status></versioningconfiguration>",
        "<VersioningConfiguration><Status>Enabled</Status>",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>x",
    ] {
        let parsed = parse_versioning_configuration(body.as_bytes());
        assert_eq!(parsed.unwrap_err().code(), MalformedXML, "{body}");
    }
}

#[test]
fn hostile_documents_are_refused() {
    let object = "<Object><Key>k</Key></Object>";
    let nested = format!("{}{}", "<Delete>".repeat(50_000), "</Delete>".repeat(50_000));
    let nested_objects = format!("<Delete>{}", "<Object>".repeat(50_000));
    let attributes: String = (0..50_000).map(|i| format!(" a{i}=''")).collect();
    let many_attributes = format!("<Delete{attributes}>{object}</Delete>");
    let laughs = "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol1 \"&lol;&lol;&lol;\">]>\
        <Delete><Object><Key>&lol1;</Key></Object></Delete>";
    let external = "<!DOCTYPE d SYSTEM \"file:///etc/passwd\"><Delete><Object><Key>k</Key></Object></Delete>";
    for body in [
        "",
        " ",
        "k",
        "<",
        "<Delete",
        "<Delete>",
        "<Delete/>",
        "</Delete>",
        nested.as_str(),
        &nested_objects,
        &many_attributes,
        laughs,
        external,
        "<Delete><Object><Key>&unknown;</Key></Object></Delete>",
        "<Delete><Object><Key>&#0;</Key></Object></Delete>",
        "<Delete><Object><Key>&#x110000;</Key></Object></Delete>",
        "<Delete><Object><Key>&#xd800;</Key></Object></Delete>",
        "<Delete><Object><Key>a & b</Key></Object></Delete>",
        "<Delete><?php echo ?><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k<b>c</b></Key></Object></Delete>",
        "<Delete><Object><Key>k</Object></Delete>",
        "<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Object><Key></Key></Object></Delete>",
        "<Delete>text<Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object><Quiet>maybe</Quiet></Delete>",
        "<Delete><Object><Key>k</Key></Object><Quiet>true</Quiet><Quiet>false</Quiet></Delete>",
        "<Delete><Object><Key>k</Key></Object><Unknown/></Delete>",
        "<Delete a='1' a='2'><Object><Key>k</Key></Object></Delete>",
        "<Delete a=><Object><Key>k</Key></Object></Delete>",
        "<Delete><Object><Key>k</Key></Object></Delete><Delete/>",
        "<Delete><Object><Key>k</Key></Object></Delete>trailing",
        "text<Delete><Object><Key>k</Key></Object></Delete>",
        "<delete><Object><Key>k</Key></Object></delete>",
        "<Else><Object><Key>k</Key></Object></Else>",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete><Object><Key>k</Key></Object></Delete>",
        " <?xml version=\"1.0\"?><Delete><Object><Key>k</Key></Object></Delete>",
        "<?xml version=\"1.0\"?><?xml version=\"1.0\"?><Delete><Object><Key>k</Key></Object></Delete>",
    ] {
        let start: String = body.chars().take(80).collect();
        assert_eq!(delete(body).unwrap_err(), S3ErrorCode::MalformedXML, "{start}");
    }
    assert_eq!(
        delete(b"<Delete><Object><Key>\xff</Key></Object></Delete>").unwrap_err(),
        S3ErrorCode::MalformedXML
    );
    let utf16: Vec<u8> = "<Delete/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(delete(utf16).unwrap_err(), S3ErrorCode::MalformedXML);
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _delete = delete(&body);
        let _parts = parse_complete_multipart_upload(&body);
        let _location = parse_create_bucket_configuration(&body);
        let _status = parse_versioning_configuration(&body);
        let _acl = parse_access_control_policy(&body, &owner());
    }

    #[test]
    fn never_panics_on_what_looks_like_xml(pieces in proptest::collection::vec(
        "(<Delete>|</Delete>|<Object>|</Object>|<Key>|</Key>|<Part>|<ETag>|<!--|-->|<!\\[CDATA\\[|\\]\\]>|&amp;|&#|;|<!DOCTYPE|>|<\\?|\\PC{0,3})",
        0..24,
    )) {
        let body = pieces.concat();
        let _delete = delete(&body);
        let _parts = complete(&body);
    }

    #[test]
    fn what_is_written_is_read_again(key in "[^\0]{1,64}") {
        let body = XmlWriter::document("Delete", |xml| xml.element("Object", |xml| xml.text("Key", &key)));
        let read = parse_delete(&body, Dialect::Aws).unwrap();
        prop_assert_eq!(keys(read), [key]);
    }
}
