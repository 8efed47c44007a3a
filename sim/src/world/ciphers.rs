//! Streams with a cipher take records that are sealed with it, and no others; the rest is given back.

use model::StreamId;
use model::config::Cipher;

use super::World;
use super::judge::Pending;
use crate::coverage::Point;
use crate::violation::{Rule, Violation, broken};

impl World {
    /// A stream has the cipher that it was made with. It may not be durable yet: then the log has no word on it.
    pub(super) fn judge_cipher(
        &self,
        node: usize,
        pending: &Pending,
        id: StreamId,
        cipher: Option<Cipher>,
    ) -> Result<(), Violation> {
        let (group, named) = self.named(node, pending);
        match group.stream_or_gone(id) {
            Some(stream) if stream.cipher != cipher => {
                let what = format!("stream `{}` has {:?} and is told to have {cipher:?}", named.stream, stream.cipher);
                broken(Rule::Sealed, what)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A batch is given back only if the stream wants it sealed otherwise, and then it is not there.
    pub(super) fn judge_other_cipher(
        &mut self,
        node: usize,
        token: u64,
        pending: &Pending,
        cipher: Option<Cipher>,
        (id, wanted): (StreamId, Option<Cipher>),
    ) -> Result<(), Violation> {
        self.coverage.point(Point::OtherCipher);
        if let Some((_, first)) = self.attempts.refuse(token).and_then(|sent| sent.found) {
            return broken(Rule::SentOnce, format!("append {token} is given back and in the log at {first}"));
        }
        if cipher == wanted {
            return broken(Rule::Sealed, format!("append {token} is sealed with {cipher:?}, as is wanted"));
        }
        self.judge_cipher(node, pending, id, wanted)
    }
}
