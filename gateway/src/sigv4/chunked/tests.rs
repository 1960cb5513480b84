use http::HeaderMap;
use proptest::prelude::*;
use secrecy::SecretString;
use t2gate_backends::Timestamp;

use super::*;
use crate::sigv4::client::{self, Signer, Target};

type Trailers = Vec<(Box<str>, Box<str>)>;

const NO_TRAILERS: &[(&str, &str)] = &[];
const CRC: &str = "x-amz-checksum-crc32c";
const MODES: [PayloadMode; 3] = [
    PayloadMode::StreamingUnsignedTrailer,
    PayloadMode::StreamingSigned,
    PayloadMode::StreamingSignedTrailer,
];

/// The signer of a request, whose seed does not matter.
fn signer() -> ChunkSigner {
    let signer = Signer {
        access_key_id: "AKIDTEST".to_owned(),
        secret_access_key: SecretString::from("a secret"),
        region: "us-east-1".to_owned(),
    };
    let target = Target {
        method: "PUT",
        host: "localhost",
        raw_path: "/b/k",
        raw_query: "",
    };
    signer
        .sign(target, &mut HeaderMap::new(), "x", Timestamp::from_unix(0, 0))
        .unwrap()
}

fn signer_for(mode: PayloadMode) -> Option<ChunkSigner> {
    mode.is_signed_streaming().then(signer)
}

fn boxed(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|&name| name.into()).collect()
}

/// Decodes a body that comes in these pieces.
fn decode_pieces<'a>(
    mut decoder: ChunkedDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Result<Trailers, ChunkedError>) {
    let (mut data, mut trailers) = (Vec::new(), None);
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(ChunkedEvent::Data(bytes)) => {
                    assert!(!bytes.is_empty() && trailers.is_none());
                    data.extend_from_slice(&bytes);
                }
                Ok(ChunkedEvent::Trailers(list)) => assert!(trailers.replace(list).is_none()),
                Ok(ChunkedEvent::NeedMore) => {
                    assert!(input.is_empty());
                    break;
                }
                Err(error) => {
                    // It stays so.
                    assert_eq!(decoder.next(&mut Bytes::from_static(b"x")), Err(error));
                    assert_eq!(decoder.finish(), Err(error));
                    return (data, Err(error));
                }
            }
        }
    }
    (
        data,
        decoder.finish().map(|()| trailers.expect("a whole body has said so")),
    )
}

/// Decodes a body, whole, byte by byte, and split in two everywhere: always with the same result.
fn decode(mode: PayloadMode, length: u64, expected: &[&str], body: &[u8]) -> (Vec<u8>, Result<Trailers, ChunkedError>) {
    let decoder = || ChunkedDecoder::new(mode, length, &boxed(expected), signer_for(mode)).unwrap();
    let whole = decode_pieces(decoder(), [body]);
    assert_eq!(decode_pieces(decoder(), body.chunks(1)), whole);
    for at in 0..body.len() {
        let (a, b) = body.split_at(at);
        assert_eq!(decode_pieces(decoder(), [a, b]), whole, "split at {at}");
    }
    whole
}

fn unsigned(length: u64, expected: &[&str], body: &str) -> Result<Trailers, ChunkedError> {
    decode(PayloadMode::StreamingUnsignedTrailer, length, expected, body.as_bytes()).1
}

/// A body of five bytes in signed chunks.
fn hello(trailers: &[(&str, &str)]) -> String {
    let body = client::encode_chunks(b"hello", 3, trailers, Some(signer()));
    String::from_utf8(body.to_vec()).unwrap()
}

fn signed(expected: &[&str], body: &str) -> Result<Trailers, ChunkedError> {
    let mode = if expected.is_empty() {
        PayloadMode::StreamingSigned
    } else {
        PayloadMode::StreamingSignedTrailer
    };
    decode(mode, 5, expected, body.as_bytes()).1
}

/// Amazon's example: 66560 times `a` in chunks of 64 KiB.
mod example {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// The signer that the request of the example starts; `trailer` for the one with a trailer.
    fn example_signer(trailer: bool) -> ChunkSigner {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &'static str| headers.insert(name, value.parse().unwrap());
        set("content-encoding", "aws-chunked");
        set("x-amz-decoded-content-length", "66560");
        set("x-amz-storage-class", "REDUCED_REDUNDANCY");
        let word = if trailer {
            set("x-amz-trailer", CRC);
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
        } else {
            set("content-length", "66824");
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
        };
        let signer = Signer {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: SecretString::from(SECRET),
            region: "us-east-1".to_owned(),
        };
        let target = Target {
            method: "PUT",
            host: "s3.amazonaws.com",
            raw_path: "/examplebucket/chunkObject.txt",
            raw_query: "",
        };
        let now = Timestamp::from_unix(1_369_353_600, 0);
        let chunk_signer = signer.sign(target, &mut headers, word, now).unwrap();
        let seed = if trailer {
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        } else {
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        };
        assert!(headers["authorization"].to_str().unwrap().ends_with(seed));
        chunk_signer
    }

    /// The body, written out with the published signatures.
    fn body(signatures: [&str; 3], trailer: &str) -> Vec<u8> {
        let [first, second, last] = signatures;
        let (a, b) = ("a".repeat(65_536), "a".repeat(1024));
        format!(
            "10000;chunk-signature={first}\r\n{a}\r\n400;chunk-signature={second}\r\n{b}\r\n\
             0;chunk-signature={last}\r\n{trailer}\r\n"
        )
        .into_bytes()
    }

    const PLAIN: [&str; 3] = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    const WITH_TRAILER: [&str; 3] = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    const TRAILER_SIGNATURE: &str = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";

    #[test]
    fn the_signed_chunks_verify() {
        let body = body(PLAIN, "");
        assert_eq!(body.len(), 66_824);
        let mode = PayloadMode::StreamingSigned;
        for size in [1, 1000, 65_536, 66_824] {
            let decoder = ChunkedDecoder::new(mode, 66_560, &[], Some(example_signer(false))).unwrap();
            let (data, end) = decode_pieces(decoder, body.chunks(size));
            assert_eq!((data.len(), end), (66_560, Ok(vec![])));
        }
        let data = vec![b'a'; 66_560];
        assert_eq!(
            client::encode_chunks(&data, 65_536, NO_TRAILERS, Some(example_signer(false))),
            body
        );
    }

    #[test]
    fn the_signed_trailer_verifies_with_every_line_end() {
        let trailers: Trailers = vec![(CRC.into(), "sOO8/Q==".into())];
        for end in ["\r\n", "\n", "\n\r\n"] {
            let trailer = format!("{CRC}:sOO8/Q=={end}x-amz-trailer-signature:{TRAILER_SIGNATURE}{end}");
            let body = body(WITH_TRAILER, &trailer);
            let mode = PayloadMode::StreamingSignedTrailer;
            let decoder = ChunkedDecoder::new(mode, 66_560, &boxed(&[CRC]), Some(example_signer(true))).unwrap();
            let (data, result) = decode_pieces(decoder, body.chunks(777));
            assert_eq!((data.len(), result), (66_560, Ok(trailers.clone())), "{end:?}");
        }
        let data = vec![b'a'; 66_560];
        let encoded = client::encode_chunks(&data, 65_536, &[(CRC, "sOO8/Q==")], Some(example_signer(true)));
        let trailer = format!("{CRC}:sOO8/Q==\r\nx-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n");
        assert_eq!(encoded, body(WITH_TRAILER, &trailer));
    }
}

#[test]
fn what_botocore_sends_is_decoded() {
    let body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let mode = PayloadMode::StreamingUnsignedTrailer;
    let (data, end) = decode(mode, 5, &["x-amz-checksum-crc32"], body.as_bytes());
    assert_eq!(data, b"hello");
    assert_eq!(end, Ok(vec![("x-amz-checksum-crc32".into(), "NhCmhg==".into())]));
}

#[test]
fn line_ends_of_trailers_may_be_crlf_lf_or_lf_crlf() {
    let one: Trailers = vec![("x-a".into(), "1".into())];
    for body in [
        "0\r\nx-a:1\r\n\r\n",
        "0\r\nX-A: 1 \r\n\r\n",
        "0\r\nx-a:1\n\r\n",
        "0\r\nx-a:1\n\n",
        "0\r\nx-a:1\n\r\n\r\n",
    ] {
        assert_eq!(unsigned(0, &["x-a"], body), Ok(one.clone()), "{body:?}");
    }
    let two: Trailers = vec![("x-a".into(), "1".into()), ("x-b".into(), "2".into())];
    for body in [
        "0\r\nx-a:1\r\nx-b:2\r\n\r\n",
        "0\r\nx-a:1\nx-b:2\n\r\n\r\n",
        "0\r\nx-a:1\n\r\nx-b:2\n\r\n\r\n",
    ] {
        assert_eq!(unsigned(0, &["x-b", "x-a"], body), Ok(two.clone()), "{body:?}");
    }
}

#[test]
fn bodies_without_trailers_end_in_an_empty_line() {
    assert_eq!(unsigned(0, &[], "0\r\n\r\n"), Ok(vec![]));
    assert_eq!(
        unsigned(16, &[], "0F\r\n0123456789abcde\r\n1\r\nf\r\n000\r\n\r\n"),
        Ok(vec![])
    );
    assert_eq!(signed(&[], &hello(NO_TRAILERS)), Ok(vec![]));
}

#[test]
fn broken_framing_is_an_incomplete_body_and_never_an_authentication_error() {
    let long = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(16));
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "hello",
        "\u{ff}\r\n",
        &long,
        &"5".repeat(200),
    ] {
        let error = unsigned(5, &[], body).unwrap_err();
        assert_eq!(error.code(), S3ErrorCode::IncompleteBody, "{body:?}");
    }
    let good = hello(NO_TRAILERS);
    for (from, to) in [
        (";chunk-signature=", ""),
        (";chunk-signature=", ";"),
        (";chunk-signature=", ";chunk-signature=0"),
        (";chunk-signature=", ";Chunk-Signature="),
        ("hel\r\n", "hel\n"),
    ] {
        let body = good.replacen(from, to, 1);
        assert_eq!(signed(&[], &body), Err(ChunkedError::Framing), "{body:?}");
    }
}

#[test]
fn a_body_that_ends_early_or_goes_on_is_incomplete() {
    let with_trailer = hello(&[("x-a", "1")]);
    for at in 0..with_trailer.len() {
        let mode = PayloadMode::StreamingSignedTrailer;
        let decoder = ChunkedDecoder::new(mode, 5, &boxed(&["x-a"]), Some(signer())).unwrap();
        let end = decode_pieces(decoder, [&with_trailer.as_bytes()[..at]]).1;
        assert_eq!(end, Err(ChunkedError::Length), "cut at {at}");
    }
    assert_eq!(signed(&["x-a"], &format!("{with_trailer}x")), Err(ChunkedError::Length));
    assert_eq!(unsigned(0, &[], "0\r\n\r\n\r\n"), Err(ChunkedError::Length));
    for after in ["\r", "\r\n\r\n", "\r\nx", "\n", "x"] {
        let body = format!("0\r\nx-a:1\n\r\n{after}");
        assert_eq!(unsigned(0, &["x-a"], &body), Err(ChunkedError::Length), "{after:?}");
    }
}

#[test]
fn the_decoded_length_must_be_as_announced() {
    for length in [0, 4, 6, u64::MAX] {
        let error = unsigned(length, &[], "5\r\nhello\r\n0\r\n\r\n").unwrap_err();
        assert_eq!(error, ChunkedError::DecodedLength, "{length}");
    }
    for size in ["ffffffffffffffff", "6", "8000000000000000"] {
        let error = unsigned(5, &[], &format!("{size}\r\nhello\r\n0\r\n\r\n")).unwrap_err();
        assert_eq!(error, ChunkedError::DecodedLength, "{size}");
    }
    assert_eq!(ChunkedError::DecodedLength.code(), S3ErrorCode::IncompleteBody);
}

#[test]
fn a_wrong_chunk_signature_shows_when_the_chunk_ends() {
    let good = hello(NO_TRAILERS);
    let mut decoder = ChunkedDecoder::new(PayloadMode::StreamingSigned, 5, &[], Some(signer())).unwrap();
    let bad = good.replacen("hel", "heL", 1);
    let end_of_chunk = bad.find("heL").unwrap() + 3;
    let mut input = Bytes::from(bad[..end_of_chunk].to_owned());
    assert!(matches!(decoder.next(&mut input), Ok(ChunkedEvent::Data(_))));
    assert_eq!(decoder.next(&mut input), Err(ChunkedError::Signature));

    for (from, to) in [("hel", "heL"), ("lo", "lO")] {
        assert_eq!(
            signed(&[], &good.replacen(from, to, 1)),
            Err(ChunkedError::Signature),
            "{from}"
        );
    }
    assert_eq!(ChunkedError::Signature.code(), S3ErrorCode::SignatureDoesNotMatch);
    assert!(S3Error::from(ChunkedError::Signature).is_unauthenticated());
    assert!(!S3Error::from(ChunkedError::Framing).is_unauthenticated());
}

#[test]
fn chunks_cannot_be_swapped_left_out_or_repeated() {
    let body = client::encode_chunks(b"aabbcc", 2, NO_TRAILERS, Some(signer()));
    let body = String::from_utf8(body.to_vec()).unwrap();
    let chunk = |i: usize| {
        let length = body.find("aa\r\n").unwrap() + 4;
        &body[i * length..(i + 1) * length]
    };
    let end = &body[chunk(0).len() * 3..];
    let decode = |chunks: &[usize], length: u64| {
        let chunks: String = chunks.iter().map(|&i| chunk(i)).collect();
        let body = format!("{chunks}{end}");
        decode(PayloadMode::StreamingSigned, length, &[], body.as_bytes()).1
    };
    assert_eq!(decode(&[0, 1, 2], 6), Ok(vec![]));
    for (chunks, length) in [
        (&[1, 0, 2][..], 6),
        (&[0, 2], 4),
        (&[0, 0, 1, 2], 8),
        (&[0, 1], 4),
        (&[], 0),
    ] {
        assert_eq!(decode(chunks, length), Err(ChunkedError::Signature), "{chunks:?}");
    }
}

#[test]
fn trailers_must_be_as_announced() {
    for (expected, lines) in [
        (&["x-a"][..], ""),
        (&["x-a", "x-b"], "x-a:1\r\n"),
        (&["x-a"], "x-a:1\r\nx-b:2\r\n"),
        (&["x-a"], "x-a:1\r\nx-a:1\r\n"),
        (&["x-a"], "x-b:1\r\n"),
        (&["x-a"], "x-a:\r\n"),
        (&["x-a"], "x-a:  \r\n"),
        (&["x-a"], "x-a\r\n"),
        (&["x-a"], "x-a :1\r\n"),
        (&["x-a"], "x-a:\u{1}\r\n"),
        (&["x-a"], "x-a:\u{e4}\r\n"),
        (&["x-a"], "\nx-a:1\r\n"),
        (&["x-a"], "\r\nx-a:1\r\n"),
        (&[], "x-a:1\r\n"),
        // No signature is expected where nothing is signed.
        (&["x-a"], "x-a:1\r\nx-amz-trailer-signature:0\r\n"),
    ] {
        let error = unsigned(0, expected, &format!("0\r\n{lines}\r\n")).unwrap_err();
        assert_eq!(error, ChunkedError::Trailer, "{lines:?}");
    }
    assert_eq!(ChunkedError::Trailer.code(), S3ErrorCode::MalformedTrailerError);
    // A mode without trailers has none.
    let body = hello(NO_TRAILERS);
    let body = body.strip_suffix("\r\n").unwrap();
    assert_eq!(signed(&[], &format!("{body}x-a:1\r\n\r\n")), Err(ChunkedError::Trailer));
}

#[test]
fn signed_trailers_need_their_signature_last() {
    let good = hello(&[("x-a", "1"), ("x-a-b", "2")]);
    let expected = &["x-a-b", "x-a"][..];
    let trailers: Trailers = vec![("x-a".into(), "1".into()), ("x-a-b".into(), "2".into())];
    assert_eq!(signed(expected, &good), Ok(trailers));
    // The order on the wire is free.
    let swapped = good.replacen("x-a:1\r\nx-a-b:2\r\n", "x-a-b:2\r\nx-a:1\r\n", 1);
    assert!(signed(expected, &swapped).is_ok());

    assert_eq!(
        signed(expected, &good.replacen("x-a:1", "x-a:2", 1)),
        Err(ChunkedError::Signature)
    );
    let (rest, signature) = good.split_once("x-amz-trailer-signature:").unwrap();
    let signature = signature.trim();
    for lines in [
        "\r\n".to_owned(),
        "x-amz-trailer-signature:\r\n\r\n".to_owned(),
        "x-amz-trailer-signature:00\r\n\r\n".to_owned(),
        format!("x-amz-trailer-signature:{signature}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"),
        format!("x-amz-trailer-signature:{signature}\r\nx-c:1\r\n\r\n"),
    ] {
        assert_eq!(
            signed(expected, &format!("{rest}{lines}")),
            Err(ChunkedError::Trailer),
            "{lines:?}"
        );
    }
    // It would not cover what comes after it.
    let (before, after) = good.split_once("x-a-b:2\r\n").unwrap();
    let late = after.replacen("\r\n\r\n", "\r\nx-a-b:2\r\n\r\n", 1);
    assert_eq!(signed(expected, &format!("{before}{late}")), Err(ChunkedError::Trailer));
}

#[test]
fn trailers_are_bounded() {
    let value = "v".repeat(MAX_TRAILER_BYTES - "x-a:\r\n\r\n".len());
    let fits = format!("0\r\nx-a:{value}\r\n\r\n");
    let decoder = || {
        let mode = PayloadMode::StreamingUnsignedTrailer;
        ChunkedDecoder::new(mode, 0, &boxed(&["x-a"]), None).unwrap()
    };
    assert!(decode_pieces(decoder(), [fits.as_bytes()]).1.is_ok());
    let too_long = format!("0\r\nx-a:{value}v\r\n\r\n");
    for size in [1, too_long.len()] {
        let end = decode_pieces(decoder(), too_long.as_bytes().chunks(size)).1;
        assert_eq!(end, Err(ChunkedError::Trailer));
    }
    // Nor does one endless line fill the memory.
    let endless = vec![b'x'; 1 << 20];
    let end = decode_pieces(decoder(), [&b"0\r\n"[..], &endless]).1;
    assert_eq!(end, Err(ChunkedError::Trailer));
    let end = decode_pieces(decoder(), [&endless[..]]).1;
    assert_eq!(end, Err(ChunkedError::Framing));
}

#[test]
fn mode_signer_and_trailers_must_go_together() {
    let new = |mode, expected: &[&str], signer| ChunkedDecoder::new(mode, 0, &boxed(expected), signer).err();
    for mode in MODES {
        let trailers = if mode.has_trailer() {
            None
        } else {
            Some(ChunkedError::Trailer)
        };
        assert_eq!(new(mode, &["x-a"], signer_for(mode)), trailers, "{mode:?}");
        let wrong = if mode.is_signed_streaming() {
            None
        } else {
            Some(signer())
        };
        assert_eq!(new(mode, &[], wrong), Some(ChunkedError::Framing), "{mode:?}");
    }
    assert_eq!(new(PayloadMode::Unsigned, &[], None), Some(ChunkedError::Framing));
    let many: Vec<_> = (0..=MAX_TRAILERS).map(|i| i.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let mode = PayloadMode::StreamingUnsignedTrailer;
    assert_eq!(new(mode, &many, None), Some(ChunkedError::Trailer));
    assert_eq!(new(mode, &many[1..], None), None);
}

#[test]
fn data_is_handed_on_without_a_copy() {
    let mut input = Bytes::from_static(b"5\r\nhello\r\n0\r\n\r\n");
    let at = input[3..].as_ptr();
    let mode = PayloadMode::StreamingUnsignedTrailer;
    let mut decoder = ChunkedDecoder::new(mode, 5, &[], None).unwrap();
    let Ok(ChunkedEvent::Data(data)) = decoder.next(&mut input) else {
        panic!("data first")
    };
    assert_eq!(data.as_ptr(), at);
}

fn pieces(body: &[u8], cuts: Vec<usize>) -> Vec<&[u8]> {
    let mut cuts: Vec<_> = cuts
        .into_iter()
        .map(|cut| cut % (body.len() + 1))
        .chain([0, body.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn what_is_encoded_reads_back_however_it_is_split(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        chunk_size in 1usize..100,
        mode in proptest::sample::select(&MODES[..]),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let sent: &[(&str, &str)] = if mode.has_trailer() { &[("x-a", "1"), ("x-b", "2")] } else { &[] };
        let expected = if mode.has_trailer() { boxed(&["x-a", "x-b"]) } else { vec![] };
        let body = client::encode_chunks(&data, chunk_size, sent, signer_for(mode));
        let decoder = ChunkedDecoder::new(mode, data.len() as u64, &expected, signer_for(mode)).unwrap();
        let (decoded, end) = decode_pieces(decoder, pieces(&body, cuts));
        prop_assert_eq!(decoded, data);
        let trailers: Trailers = sent.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        prop_assert_eq!(end, Ok(trailers));
    }

    #[test]
    fn never_panics_and_never_depends_on_the_split(
        body in "([0-9a-f]{0,3}(;chunk-signature=[0-9a-f]{0,3})?\r?\n?[a-z]{0,4}\r?\n?|0\r\n|x-a:1(\r\n|\n|\n\r\n)|\r\n){0,6}",
        noise in proptest::option::of((any::<usize>(), any::<u8>())),
        length in 0u64..6,
        mode in proptest::sample::select(&MODES[..]),
        cuts in proptest::collection::vec(any::<usize>(), 0..10),
    ) {
        let mut body = body.into_bytes();
        if let Some((at, byte)) = noise && !body.is_empty() {
            let at = at % body.len();
            body[at] = byte;
        }
        let expected = if mode.has_trailer() { boxed(&["x-a"]) } else { vec![] };
        let decoder = || ChunkedDecoder::new(mode, length, &expected, signer_for(mode)).unwrap();
        let whole = decode_pieces(decoder(), [&body[..]]);
        prop_assert!(whole.0.len() as u64 <= length);
        prop_assert_eq!(decode_pieces(decoder(), pieces(&body, cuts)), whole);
    }

    /// One byte changed, anywhere: the data are refused, or they are what was signed.
    #[test]
    fn no_damage_to_signed_chunks_goes_unseen(at in any::<usize>(), byte in any::<u8>()) {
        let mut body = hello(&[("x-a", "1")]).into_bytes();
        let at = at % body.len();
        body[at] = byte;
        let mode = PayloadMode::StreamingSignedTrailer;
        let decoder = ChunkedDecoder::new(mode, 5, &boxed(&["x-a"]), Some(signer())).unwrap();
        let (data, end) = decode_pieces(decoder, [&body[..]]);
        if let Ok(trailers) = end {
            prop_assert_eq!(data, b"hello");
            prop_assert_eq!(trailers, vec![("x-a".into(), "1".into())]);
        }
    }
}
