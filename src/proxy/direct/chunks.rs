//! Where a chunked body ends (RFC 9112 7.1), found in passing: what is read is sent on as it is.

use super::answer::Malformed;

/// How far a chunked body has come.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
    /// What is left of the chunk, or the size that is being read.
    left: u64,
    /// Digits of the size so far; bytes of the extension or of the trailer section.
    seen: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    /// Spaces behind the size.
    Space,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    /// At the beginning of a trailer field, or of the empty line.
    Trailer,
    TrailerField,
    TrailerFieldEnd,
    LastLf,
    Done,
}

/// What was found in a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// So many bytes of it belong to the body.
    pub(super) length: usize,
    /// So many of those go on to the client: all, but for the trailer section.
    pub(super) kept: usize,
    /// Whether the body has ended. The empty line at its end is not among what goes on.
    pub(super) done: bool,
}

impl Chunks {
    /// Reads on in a piece.
    ///
    /// # Errors
    /// It is malformed: a size that is none, a bare CR or LF, a trailer section without end.
    pub(super) fn scan(&mut self, piece: &[u8]) -> Result<Found, Malformed> {
        let mut at = 0;
        let mut kept = if self.in_trailer() { Some(0) } else { None };
        while self.at != At::Done {
            let Some(byte) = piece.get(at).copied() else { break };
            if self.at == At::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len() - at);
                self.left -= here as u64;
                at += here;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            self.at = self.step(byte)?;
            at += 1;
            if kept.is_none() && self.in_trailer() {
                kept = Some(at);
            }
        }
        Ok(Found { length: at, kept: kept.unwrap_or(at), done: self.at == At::Done })
    }

    const fn in_trailer(&self) -> bool {
        matches!(self.at, At::Trailer | At::TrailerField | At::TrailerFieldEnd | At::LastLf | At::Done)
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        Ok(match (self.at, byte) {
            (At::Size, b) if b.is_ascii_hexdigit() => {
                self.seen += 1;
                if self.seen > MAX_DIGITS {
                    return Err(Malformed);
                }
                self.left = self.left << 4 | u64::from(char::from(b).to_digit(16).unwrap_or_default());
                At::Size
            }
            (At::Size, _) if self.seen == 0 => return Err(Malformed),
            (At::Size | At::Space | At::Extension, b'\r') => At::SizeEnd,
            (At::Size, b';' | b' ' | b'\t') => {
                self.seen = 0;
                if byte == b';' { At::Extension } else { At::Space }
            }
            // Nothing but an extension follows: a client could read "1 0" as another size.
            (At::Space, b';') => At::Extension,
            (At::Space, b' ' | b'\t') => self.within(At::Space)?,
            (At::Extension, b) if b == b'\t' || !b.is_ascii_control() => self.within(At::Extension)?,
            (At::SizeEnd, b'\n') => {
                self.seen = 0;
                if self.left == 0 { At::Trailer } else { At::Data }
            }
            (At::DataEnd, b'\r') => At::DataEndLf,
            (At::DataEndLf, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::LastLf,
            (At::Trailer | At::TrailerField, b) if b == b'\t' || !b.is_ascii_control() => {
                self.within(At::TrailerField)?
            }
            (At::TrailerField, b'\r') => At::TrailerFieldEnd,
            (At::TrailerFieldEnd, b'\n') => At::Trailer,
            (At::LastLf, b'\n') => At::Done,
            _ => return Err(Malformed),
        })
    }

    fn within(&mut self, at: At) -> Result<At, Malformed> {
        self.seen += 1;
        if self.seen > MAX_EXTRA { Err(Malformed) } else { Ok(at) }
    }
}

/// Of a chunk's size.
const MAX_DIGITS: usize = 15;
/// Bytes of a chunk's extension, or of the trailer section.
const MAX_EXTRA: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes on and what is left, read in pieces of every size.
    fn read(body: &[u8]) -> Result<(String, String), Malformed> {
        let mut outcomes = Vec::new();
        for size in 1..=body.len() {
            let (mut chunks, mut kept, mut rest) = (Chunks::default(), Vec::new(), body);
            let outcome = loop {
                let piece = &rest[..size.min(rest.len())];
                match chunks.scan(piece) {
                    Ok(found) => {
                        kept.extend_from_slice(&piece[..found.kept]);
                        rest = &rest[found.length..];
                        if found.done || rest.is_empty() {
                            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                            let end = if found.done { "$" } else { "" };
                            break Ok((text(&kept) + end, text(rest)));
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            outcomes.push(outcome);
        }
        assert!(outcomes.windows(2).all(|two| two[0] == two[1]), "{outcomes:?}");
        outcomes.pop().unwrap()
    }

    #[test]
    fn the_end_is_found_wherever_the_pieces_are_cut() {
        for (body, kept, rest) in [
            ("0\r\n\r\n", "0\r\n$", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n$", ""),
            ("3\r\nabc\r\n0\r\n\r\nHTTP", "3\r\nabc\r\n0\r\n$", "HTTP"),
            ("a;x=\"y\"\r\n0123456789\r\n00\r\n\r\n", "a;x=\"y\"\r\n0123456789\r\n00\r\n$", ""),
            ("1  \r\nx\r\n0\r\n\r\n", "1  \r\nx\r\n0\r\n$", ""),
            ("1 \t;a\r\nx\r\n0 \r\n\r\n", "1 \t;a\r\nx\r\n0 \r\n$", ""),
            ("1\r\nx\r\n0\r\nConnection: close\r\nX: y\r\n\r\n", "1\r\nx\r\n0\r\n$", ""),
            ("5\r\n\r\n0\r\n\r\n0\r\n\r\n", "5\r\n\r\n0\r\n\r\n0\r\n$", ""),
            ("5\r\nab", "5\r\nab", ""),
        ] {
            assert_eq!(read(body.as_bytes()), Ok((kept.to_owned(), rest.to_owned())), "{body:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_not_guessed_at() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x1\r\nx\r\n",
            "1\nx\r\n",
            "1\r\nxy\r\n",
            "1\r\nx\n",
            "1;a\nb\r\nx",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "1 \r\rx",
            "1 0\r\nx",
            "1\tx\r\nx",
            "1234567890abcdef0\r\n",
            ";x\r\n",
            "1\r\nx\r\r\n",
        ] {
            assert_eq!(read(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }
}
