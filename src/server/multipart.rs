//! Several ranges of a blob as one `multipart/byteranges` body.
//!
//! The length of the whole body is known before its first byte. Source: RFC 9110, 14.6.

use std::ops::Range;

use bytes::Bytes;

use super::send::Stretch;

pub(super) struct Multipart {
    pub(super) content_type: String,
    pub(super) length: u64,
    pub(super) stretches: Vec<Stretch>,
}

impl Multipart {
    /// `boundary` is of letters and digits and stands in no content by chance.
    pub(super) fn new(ranges: Vec<Range<u64>>, blob_length: u64, boundary: &str) -> Multipart {
        let mut length = 0;
        let mut stretches = Vec::with_capacity(2 * ranges.len() + 1);
        let mut line_break = "";
        for range in ranges {
            let head = format!(
                "{line_break}--{boundary}\r\n\
                 Content-Type: application/octet-stream\r\n\
                 Content-Range: {}\r\n\r\n",
                content_range(&range, blob_length),
            );
            line_break = "\r\n";
            length += head.len() as u64 + (range.end - range.start);
            stretches.push(Stretch::Text(head.into()));
            stretches.push(Stretch::Part(range));
        }
        let tail = Bytes::from(format!("{line_break}--{boundary}--\r\n"));
        length += tail.len() as u64;
        stretches.push(Stretch::Text(tail));
        Multipart {
            content_type: format!("multipart/byteranges; boundary={boundary}"),
            length,
            stretches,
        }
    }
}

/// `bytes 0-9/100`
pub(super) fn content_range(range: &Range<u64>, blob_length: u64) -> String {
    format!("bytes {}-{}/{blob_length}", range.start, range.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_all_parts() {
        let multipart = Multipart::new(vec![90..100, 0..10], 100, "B");
        let blob: Vec<u8> = (0..100).collect();
        let mut body = Vec::new();
        for stretch in &multipart.stretches {
            match stretch {
                Stretch::Text(text) => body.extend_from_slice(text),
                Stretch::Part(range) => {
                    body.extend_from_slice(&blob[range.start as usize..range.end as usize]);
                }
            }
        }
        assert_eq!(body.len() as u64, multipart.length);
        let text = String::from_utf8_lossy(&body);
        assert!(text.starts_with("--B\r\nContent-Type: application/octet-stream\r\n"));
        assert!(text.contains("\r\n--B\r\n"));
        assert!(text.contains("Content-Range: bytes 90-99/100\r\n\r\n"));
        assert!(text.ends_with("\r\n--B--\r\n"));
    }
}
