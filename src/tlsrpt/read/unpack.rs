//! From a mail or a compressed file to the JSON in it.
//!
//! The content tells the form, and never the name of the file.

use std::io::Read;
use std::vec;

use flate2::read::{DeflateDecoder, MultiGzDecoder};

use super::parts::{self, MailLeaf};
use super::signed::signed_by;
use crate::excerpt::without_mark;

/// The most octets of a mail or a file.
pub const MAX_INPUT: usize = 15_000_000;
/// The most octets of all reports of a mail when they are unpacked.
pub const MAX_UNPACKED: usize = 20_000_000;
/// The most levels of parts in parts that a mail may have.
pub const MAX_LEVELS: usize = 64;
/// The most parts of a mail.
pub const MAX_PARTS: usize = 1000;
/// The most reports of one mail.
const MAX_REPORTS: usize = 100;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZIP: &[u8] = b"PK\x03\x04";

/// JSON, and the sender's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// The JSON.
    pub json: Vec<u8>,
    /// The domains whose signature of the mail was verified.
    pub signed_by: Vec<String>,
}

/// Why an input has no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// More than any report.
    #[error("it has more than {MAX_INPUT} octets")]
    TooLong,
    /// More than any report, or a bomb.
    #[error("more than {MAX_UNPACKED} octets come out of it")]
    Bomb,
    /// The compression is broken.
    #[error("it cannot be unpacked: {0}")]
    Broken(String),
    /// A zip file of several members, or of a form that no sender has.
    #[error("the zip file is not of one member that is stored or deflated")]
    Zip,
    /// Too many parts, or parts in parts.
    #[error("the mail has more than {MAX_PARTS} parts, or more than {MAX_LEVELS} levels of them")]
    Nested,
    /// A mail without a part that may be a report.
    #[error("the mail has no part that may be a report")]
    NoPart,
}

/// The JSON texts of a mail or file. Each is unpacked when it is asked for, so that a reader holds one at a time.
#[derive(Debug)]
pub struct Unpacking<'a> {
    leaves: vec::IntoIter<MailLeaf<'a>>,
    signed_by: Vec<String>,
    reports: usize,
    budget: UnpackBudget,
}

/// The octets that may still come out of a mail.
#[derive(Debug)]
struct UnpackBudget {
    left: usize,
}

/// The JSON texts in a mail or file.
///
/// # Errors
/// There is none, for this reason. A part that is of no use is an error of its own on the way.
pub fn unpack<'a>(octets: &'a [u8], authserv: Option<&str>) -> Result<Unpacking<'a>, UnpackError> {
    if octets.len() > MAX_INPUT {
        return Err(UnpackError::TooLong);
    }
    if octets.trim_ascii().is_empty() {
        return Err(UnpackError::Empty);
    }
    let is_mail = !is_file(octets) && !is_json(octets);
    let leaves = if is_mail { parts::leaves(octets)? } else { vec![MailLeaf::of_file(octets)] };
    let signed_by = authserv.filter(|_| is_mail).map_or_else(Vec::new, |name| signed_by(octets, name));
    let budget = UnpackBudget { left: MAX_UNPACKED };
    Ok(Unpacking { leaves: leaves.into_iter(), signed_by, reports: 0, budget })
}

impl Iterator for Unpacking<'_> {
    type Item = Result<Unpacked, UnpackError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.reports < MAX_REPORTS {
            let Some(leaf) = self.leaves.next() else {
                let is_none = self.reports == 0;
                self.reports = MAX_REPORTS;
                return is_none.then_some(Err(UnpackError::NoPart));
            };
            let contents = leaf.contents();
            if !may_be_a_report(&leaf, &contents) {
                continue;
            }
            self.reports += 1;
            let json = self.budget.file(&contents);
            if json == Err(UnpackError::Bomb) {
                self.reports = MAX_REPORTS;
            }
            return Some(json.map(|json| Unpacked { json, signed_by: self.signed_by.clone() }));
        }
        None
    }
}

fn may_be_a_report(leaf: &MailLeaf<'_>, contents: &[u8]) -> bool {
    is_file(contents) || leaf.is_named_report() && !contents.trim_ascii().is_empty()
}

fn is_file(octets: &[u8]) -> bool {
    octets.starts_with(GZIP) || octets.starts_with(ZIP)
}

fn is_json(octets: &[u8]) -> bool {
    without_mark(octets).trim_ascii_start().starts_with(b"{")
}

impl UnpackBudget {
    /// A file: gzip, zip, or the JSON itself.
    fn file(&mut self, octets: &[u8]) -> Result<Vec<u8>, UnpackError> {
        if octets.starts_with(GZIP) {
            return self.taken(MultiGzDecoder::new(octets));
        }
        if octets.starts_with(ZIP) {
            return self.member(octets);
        }
        self.taken(octets)
    }

    /// All that is read, also where it breaks in the middle, is gone from the budget.
    fn taken(&mut self, from: impl Read) -> Result<Vec<u8>, UnpackError> {
        let mut out = Vec::new();
        let result = from.take(self.left as u64 + 1).read_to_end(&mut out);
        self.left = self.left.checked_sub(out.len()).ok_or(UnpackError::Bomb)?;
        result.map_err(|error| UnpackError::Broken(error.to_string()))?;
        Ok(out)
    }

    /// The one member of a zip file (APPNOTE 6.3.10 §4.3.7). Some senders have the sizes behind the data, so that the end of the
    /// member is found by its compression; what follows must be no second member.
    fn member(&mut self, octets: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let number = |at: usize| octets.get(at..at + 2).map(|two| usize::from(u16::from_le_bytes([two[0], two[1]])));
        let word = |at: usize| Some(number(at)? | number(at + 2)? << 16);
        let header = || Some([number(6)?, number(8)?, word(18)?, number(26)?, number(28)?]);
        let [flags, method, size, name, extra] = header().ok_or(UnpackError::Zip)?;
        let data = octets.get(30 + name + extra..).ok_or(UnpackError::Zip)?;
        let (is_encrypted, size_is_behind) = (flags & 1 != 0, flags & 8 != 0);
        if is_encrypted {
            return Err(UnpackError::Zip);
        }
        let (out, rest) = match method {
            0 if !size_is_behind => {
                let (stored, rest) = data.split_at_checked(size).ok_or(UnpackError::Zip)?;
                (self.taken(stored)?, rest)
            }
            8 => {
                let mut decoder = DeflateDecoder::new(data);
                let out = self.taken(&mut decoder)?;
                let used = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
                (out, data.get(used..).unwrap_or_default())
            }
            _ => return Err(UnpackError::Zip),
        };
        // The optional sizes, and then the directory.
        let is_last = |rest: &[u8]| !rest.get(..20).unwrap_or(rest).windows(4).any(|four| four == ZIP);
        if is_last(rest) { Ok(out) } else { Err(UnpackError::Zip) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};

    use super::*;

    pub(crate) fn gzip(octets: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(octets).unwrap();
        encoder.finish().unwrap()
    }

    fn zip(members: &[&[u8]], method: u16, flags: u16) -> Vec<u8> {
        let mut out = Vec::new();
        for member in members {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(member).unwrap();
            let data = if method == 8 { encoder.finish().unwrap() } else { member.to_vec() };
            out.extend(ZIP);
            out.extend([20, 0]);
            out.extend(flags.to_le_bytes());
            out.extend(method.to_le_bytes());
            out.extend([0; 8]);
            let size = if flags & 8 == 0 { u32::try_from(data.len()).unwrap() } else { 0 };
            out.extend(size.to_le_bytes());
            out.extend([0; 4]);
            out.extend([6, 0, 0, 0]);
            out.extend(b"a.json");
            out.extend(data);
            if flags & 8 != 0 {
                out.extend(b"PK\x07\x08");
                out.extend([0; 12]);
            }
        }
        out.extend(b"PK\x01\x02");
        out
    }

    pub(crate) fn base64(octets: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for three in octets.chunks(3) {
            let word = three.iter().fold(0_u32, |word, octet| word << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
            for place in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
                out.push(if place > three.len() { '=' } else { char::from(digit) });
            }
        }
        out
    }

    pub(crate) fn mail_with(kind: &str, octets: &[u8]) -> Vec<u8> {
        let lines: Vec<_> =
            base64(octets).as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!(
            "Authentication-Results: mx.example.org; spf=pass;\r\n dkim=pass header.d=sender.example header.s=x\r\n\
             Authentication-Results: mx.example.org; dkim=pass header.d=forged.example\r\n\
             From: r@sender.example\r\nSubject: Report Domain: example.org\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=tlsrpt;\r\n boundary=\"x\"\r\n\r\n\
             --x\r\nContent-Type: text/plain\r\n\r\n{{this is no report}}\r\n\
             --x\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--x--\r\n",
            lines.join("\r\n")
        )
        .into_bytes()
    }

    fn found(octets: &[u8]) -> Result<Vec<Vec<u8>>, UnpackError> {
        unpack(octets, None)?.map(|found| found.map(|found| found.json)).collect()
    }

    #[test]
    fn u1_the_content_tells_the_form() {
        let json: &[u8] = br#"{"policies":[]}"#;
        for input in [
            json.to_vec(),
            [b"\xef\xbb\xbf \r\n", json].concat(),
            gzip(json),
            zip(&[json], 0, 0),
            zip(&[json], 8, 0),
            zip(&[json], 8, 8),
            mail_with("application/tlsrpt+gzip", &gzip(json)),
            mail_with("application/tlsrpt+json", json),
            mail_with("application/octet-stream", &gzip(json)),
            mail_with("application/octet-stream; name=\"a!b!1!2.json\"", json),
            mail_with("application/zip", &zip(&[json], 8, 0)),
            [b"Content-Type: message/rfc822\r\n\r\n", &mail_with("application/tlsrpt+gzip", &gzip(json))[..]].concat(),
        ] {
            let found = found(&input).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&input)));
            assert_eq!(found.len(), 1);
            assert!(found[0].ends_with(json));
        }
    }

    #[test]
    fn u2_what_would_fill_the_memory_is_refused() {
        use UnpackError::{Bomb, Empty, Nested, NoPart, TooLong, Zip};
        // A gigabyte of blanks as a megabyte.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..60 {
            encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let boundary = |number| format!("Content-Type: multipart/mixed; boundary=\"b{number}\"\r\n\r\n--b{number}\r\n");
        let deep: String = (0..1000).map(boundary).collect();
        let inner = "Content-Type: message/rfc822\r\n\r\n".repeat(300_000);
        for (input, expected) in [
            (bomb.clone(), Bomb),
            (zip(&[&vec![b' '; MAX_UNPACKED + 1]], 8, 0), Bomb),
            (deep.into_bytes(), Nested),
            (inner.into_bytes(), Nested),
            (vec![b'{'; MAX_INPUT + 1], TooLong),
            (b" \r\n".to_vec(), Empty),
            (b"Subject: hello\r\n\r\n{\"policies\":[]}".to_vec(), NoPart),
            (zip(&[b"{}", b"{}"], 8, 0), Zip),
            (zip(&[b"{}", b"{}"], 0, 0), Zip),
            (zip(&[b"{}"], 0, 1), Zip),
            (zip(&[b"{}"], 12, 0), Zip),
            (ZIP.to_vec(), Zip),
        ] {
            assert_eq!(found(&input), Err(expected));
        }
        assert_eq!(found(&mail_with("application/gzip", &bomb)), Err(Bomb));
        // The encoding is forbidden there.
        let encoded = mail_with("message/rfc822", &mail_with("application/tlsrpt+gzip", &gzip(b"{}")));
        assert_eq!(found(&encoded), Err(NoPart));
        assert!(matches!(found(&gzip(b"{}")[..15]), Err(UnpackError::Broken(_))));
    }

    fn mail_of(parts: &[Vec<u8>]) -> Vec<u8> {
        let part = |octets: &Vec<u8>| {
            format!(
                "--x\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                base64(octets)
            )
        };
        let parts: String = parts.iter().map(part).collect();
        format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{parts}--x--\r\n").into_bytes()
    }

    #[test]
    fn u2_the_limit_holds_for_all_parts_of_a_mail() {
        let blank = vec![b' '; MAX_UNPACKED * 2 / 5];
        let whole = gzip(&blank);
        let broken = whole[..whole.len() - 4].to_vec();
        let zipped = |method, octets: &[u8]| zip(&[octets], method, 0);
        for (third, last) in [
            (broken.clone(), Err(UnpackError::Bomb)),
            (zipped(8, &blank), Err(UnpackError::Bomb)),
            (gzip(b"{}"), Ok(2)),
            (zipped(0, b"{}"), Ok(2)),
        ] {
            // The second one is broken, and has cost as much.
            let mail = mail_of(&[whole.clone(), broken.clone(), third, gzip(b"{}")]);
            let found: Vec<_> = unpack(&mail, None).unwrap().map(|found| found.map(|found| found.json.len())).collect();
            assert_eq!(found[0], Ok(blank.len()));
            assert!(matches!(found[1], Err(UnpackError::Broken(_))), "{found:?}");
            assert_eq!(found[2], last);
            assert_eq!(found.len(), if last.is_err() { 3 } else { 4 });
        }
        assert_eq!(found(&mail_of(&vec![gzip(b"{}"); MAX_REPORTS + 1])).unwrap().len(), MAX_REPORTS);
    }

    #[test]
    fn u7_only_the_topmost_word_of_our_own_server_counts() {
        let mail = mail_with("application/tlsrpt+gzip", &gzip(b"{}"));
        let signed = |authserv| unpack(&mail, authserv).unwrap().next().unwrap().unwrap().signed_by;
        assert_eq!(signed(Some("MX.example.org")), ["sender.example"]);
        assert_eq!(signed(Some("example.org")), Vec::<String>::new());
        assert_eq!(signed(None), Vec::<String>::new());
    }
}
