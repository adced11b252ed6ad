//! The subject of a client's certificate, as rules name it: `CN=node-1`.
//!
//! The certificate has been verified before it comes here; this only finds the name in it. What is
//! no certificate has no subject. Source: RFC 5280, section 4.1; X.690 (DER).

use std::fmt::Write;

use globset::GlobMatcher;

/// The attributes of a subject, each as `CN=node-1`, in the order of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    attributes: Vec<String>,
}

impl Subject {
    /// `None`: no subject can be found in these bytes.
    pub fn of_certificate(der: &[u8]) -> Option<Subject> {
        let (certificate, _) = element(der, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        if let Some((_, rest)) = element(fields, VERSION) {
            fields = rest;
        }
        // Serial number, signature algorithm, issuer, validity; then comes the subject.
        for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
            (_, fields) = element(fields, tag)?;
        }
        let (mut names, _) = element(fields, SEQUENCE)?;
        let mut attributes = Vec::new();
        while !names.is_empty() {
            let (mut set, rest) = element(names, SET)?;
            names = rest;
            while !set.is_empty() {
                let (attribute, rest) = element(set, SEQUENCE)?;
                set = rest;
                attributes.push(read_attribute(attribute)?);
            }
        }
        Some(Subject { attributes })
    }

    /// Whether the pattern fits one attribute, or all of them joined by commas.
    pub(super) fn fits(&self, pattern: &GlobMatcher) -> bool {
        let whole = || pattern.is_match(self.to_string());
        self.attributes.iter().any(|one| pattern.is_match(one)) || whole()
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.attributes.join(","))
    }
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;

/// The first element of `der` if it has this tag: its content, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == tag).then_some((content, rest))
}

fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (length, der) = match first {
        0..=0x7f => (usize::from(first), der),
        // One to four bytes that say the length; 0x80 would mean a length that is not stated.
        0x81..=0x84 => {
            let (digits, der) = der.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
            (length, der)
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn read_attribute(attribute: &[u8]) -> Option<String> {
    let (identifier, rest) = element(attribute, OBJECT_IDENTIFIER)?;
    let (tag, value, _) = any_element(rest)?;
    let value = match tag {
        BMP_STRING => {
            let units = value
                .chunks_exact(2)
                .map(|pair| u16::from(pair[0]) << 8 | u16::from(pair[1]));
            char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        _ => String::from_utf8_lossy(value).into_owned(),
    };
    let printable: String = value.chars().filter(|c| !c.is_control()).collect();
    Some(format!("{}={printable}", name_of(identifier)))
}

/// The short name of an attribute type, or its number. Source: RFC 4519.
fn name_of(identifier: &[u8]) -> String {
    let short = match identifier {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        other => return hex(other),
    };
    short.to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("#".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

#[cfg(test)]
mod tests {
    use globset::Glob;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(attributes: &[(DnType, &str)]) -> Vec<u8> {
        let mut name = DistinguishedName::new();
        for (kind, value) in attributes {
            name.push(kind.clone(), *value);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_subject_is_found_and_fits_by_attribute_and_as_a_whole() {
        let der = certificate(&[
            (DnType::CommonName, "node-1"),
            (DnType::OrganizationName, "Acme, Inc."),
        ]);
        let subject = Subject::of_certificate(&der).unwrap();
        for (pattern, fits) in [
            ("CN=node-*", true),
            ("O=Acme*", true),
            ("*CN=node-1*", true),
            ("CN=node", false),
            ("OU=node-1", false),
            ("node-1", false),
        ] {
            let glob = Glob::new(pattern).unwrap().compile_matcher();
            assert_eq!(subject.fits(&glob), fits, "{pattern} {subject}");
        }
    }

    #[test]
    fn a_certificate_without_a_name_has_an_empty_subject() {
        let subject = Subject::of_certificate(&certificate(&[])).unwrap();
        assert_eq!(subject.to_string(), "");
    }

    #[test]
    fn no_broken_certificate_makes_the_reader_panic() {
        let der = certificate(&[(DnType::CommonName, "node-1")]);
        for at in 0..der.len() {
            for byte in [0, 0x7f, 0x80, 0x81, 0x84, 0xff] {
                let mut broken = der.clone();
                broken[at] = byte;
                let _ = Subject::of_certificate(&broken);
            }
            let _ = Subject::of_certificate(&der[..at]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(der: Vec<u8>) {
            let _ = Subject::of_certificate(&der);
        }
    }
}
