//! What a request may bring and what a reader may hold: a body is bounded before it is buffered, and what all of a front
//! hold together is bounded by kind, so that slow readers take nothing from those who append or read a little.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use api::compression::Decompressor;
use api::{ApiError, Code, Compression};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;
use model::{Failure, Unavailable};

use super::watch::Connection;
use super::{Front, Phase};
use crate::metrics::FrontMetrics;

/// Largest protobuf body of a unary append: a full batch with room for what the metered size does not count.
pub(crate) const PROTO_BYTES_MAX: usize = 2 << 20;
/// Largest JSON body of a unary append: a full batch with every byte escaped.
pub(crate) const JSON_BYTES_MAX: usize = 8 << 20;
/// Largest body of a control-plane request.
pub(crate) const CONTROL_BYTES_MAX: usize = 1 << 20;
/// A refused body is still read up to here, so that the client gets to see the answer.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// And for this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// A whole body has to come within this time, however steady its drip.
const BODY_TIME_MAX: Duration = Duration::from_secs(120);
/// What a client is told to wait when the memory for what it asks is used up.
const RETRY_AFTER_MS: u32 = 100;
/// How long a read waits for memory before it is answered so.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);

/// The memory of one front, by what it is for.
pub(crate) struct Budgets {
    /// Request bodies, and what append sessions have under way: half. Full: a unary request is answered 429, an append
    /// session reads on when what it has under way is durable.
    pub(crate) bodies: Rc<Budget>,
    /// Answers of unary reads: an eighth. Full: a read waits a moment, then it is answered 429.
    pub(crate) answers: Rc<Budget>,
    /// Batches on their way to read sessions: the rest. Full: sessions wait for those that are being sent.
    pub(crate) sessions: Rc<Budget>,
}

impl Budgets {
    /// Splits `bytes_max`.
    #[must_use]
    pub(crate) fn new(bytes_max: usize, metrics: &Arc<FrontMetrics>) -> Self {
        let part = |eighths: usize| Rc::new(Budget::new(bytes_max / 8 * eighths, Arc::clone(metrics)));
        Self { bodies: part(4), answers: part(1), sessions: part(3) }
    }
}

/// Memory of one front for one purpose.
pub(crate) struct Budget {
    bytes_max: usize,
    used: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
    metrics: Arc<FrontMetrics>,
}

/// Memory taken from a [`Budget`], given back on drop.
pub(crate) struct Reserved {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes_max`.
    #[must_use]
    pub(crate) const fn new(bytes_max: usize, metrics: Arc<FrontMetrics>) -> Self {
        Self { bytes_max, used: Cell::new(0), waiting: RefCell::new(Vec::new()), metrics }
    }

    /// Takes `bytes`, if they are there.
    pub(crate) fn reserve(self: &Rc<Self>, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved { budget: Rc::clone(self), bytes: 0 };
        reserved.grow(bytes).then_some(reserved)
    }

    /// Takes `bytes` for something that may be asked for again later.
    ///
    /// # Errors
    /// 429 when they are not there.
    pub(crate) fn reserve_or_busy(self: &Rc<Self>, bytes: usize) -> Result<Reserved, ApiError> {
        self.reserve(bytes).ok_or_else(|| Failure::from(Unavailable::Busy { retry_after_ms: RETRY_AFTER_MS }).into())
    }

    /// Takes `bytes`, and waits a moment for them.
    ///
    /// # Errors
    /// 429 when they are still not there.
    pub(crate) async fn reserve_soon(self: &Rc<Self>, bytes: usize) -> Result<Reserved, ApiError> {
        if let Some(reserved) = self.reserve(bytes) {
            return Ok(reserved);
        }
        let room = poll_fn(|cx| match self.reserve(bytes) {
            Some(reserved) => Poll::Ready(reserved),
            None => {
                self.wait_for_room(cx);
                Poll::Pending
            }
        });
        tokio::time::timeout(ROOM_WAIT_MAX, room).await.or_else(|_| self.reserve_or_busy(bytes))
    }

    /// Wakes the caller when something was given back.
    pub(crate) fn wait_for_room(&self, cx: &Context<'_>) {
        self.waiting.borrow_mut().push(cx.waker().clone());
    }

    /// Whether anything is left.
    #[must_use]
    pub(crate) const fn has_room(&self) -> bool {
        self.used.get() < self.bytes_max
    }

    /// Takes `bytes` even beyond the limit: for what is there already, or without which nothing would move.
    pub(crate) fn take(self: &Rc<Self>, bytes: usize) -> Reserved {
        self.add(bytes);
        Reserved { budget: Rc::clone(self), bytes }
    }

    fn give_back(&self, bytes: usize) {
        // Whoever waits and tries again in vain must not wake itself.
        if bytes == 0 {
            return;
        }
        self.used.set(self.used.get() - bytes);
        self.metrics.buffered_bytes.sub(bytes as u64);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
        self.metrics.buffered_bytes.add(bytes as u64);
    }
}

impl Reserved {
    /// Takes `bytes` more, if they are there.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.budget.used.get() + bytes > self.budget.bytes_max {
            return false;
        }
        self.budget.add(bytes);
        self.bytes += bytes;
        true
    }
}

impl Reserved {
    /// The same for a new owner; nothing stays behind.
    pub(crate) fn move_out(&mut self) -> Self {
        Self { budget: Rc::clone(&self.budget), bytes: std::mem::take(&mut self.bytes) }
    }

    /// Gives back what is beyond `bytes`, or takes what is missing, even beyond the limit: it is there already.
    pub(crate) fn settle(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.add(bytes - self.bytes);
        } else {
            self.budget.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// A body that was read whole, and the memory it is counted under.
pub(crate) struct WholeBody {
    /// The bytes, decompressed.
    pub(crate) bytes: Bytes,
    /// Their place in the budget, kept for as long as this value lives.
    reserved: Reserved,
}

impl WholeBody {
    /// The bytes and their place apart.
    pub(crate) fn into_parts(self) -> (Bytes, Reserved) {
        (self.bytes, self.reserved)
    }
}

/// How much of a body is read, and how it is refused beyond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit {
    /// Most bytes, compressed and not.
    pub(crate) bytes_max: usize,
    /// 400 with this code.
    pub(crate) code: Code,
}

impl BodyLimit {
    fn too_large(&self) -> ApiError {
        ApiError::new(self.code, format!("request body is too large: at most {} bytes", self.bytes_max))
    }
}

/// Reads a whole body within `limit`, and undoes its content encoding.
///
/// # Errors
/// 400 when it is too large or damaged, 408 when it comes too slowly, 429 when the front's memory is used up, 503 when the
/// server stops before it is there.
pub(crate) async fn read_body(
    front: &Front,
    connection: &Rc<Connection>,
    mut body: Incoming,
    encoding: Compression,
    limit: BodyLimit,
) -> Result<WholeBody, ApiError> {
    let declared = body.size_hint().lower();
    if declared > limit.bytes_max as u64 {
        tokio::task::spawn_local(drain(body));
        return Err(limit.too_large());
    }
    let declared = usize::try_from(declared).unwrap_or(limit.bytes_max);
    let mut reserved = match front.budgets.bodies.reserve_or_busy(declared) {
        Ok(reserved) => reserved,
        Err(error) => {
            tokio::task::spawn_local(drain(body));
            return Err(error);
        }
    };
    let _reading = connection.reading_body();
    let read = tokio::time::timeout(BODY_TIME_MAX, read_plain(&mut body, declared, &mut reserved, limit));
    let Some(read) = front.before(Phase::Ending, read).await else {
        tokio::task::spawn_local(drain(body));
        return Err(Failure::from(Unavailable::Draining).into());
    };
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            tokio::task::spawn_local(drain(body));
            return Err(error);
        }
        Err(_) => return Err(ApiError::new(Code::RequestTimeout, "the request body did not come in time")),
    };
    let bytes = match encoding {
        Compression::None => bytes,
        Compression::Gzip | Compression::Zstd => {
            let plain = Decompressor::default().decompress(encoding, &bytes, limit.bytes_max);
            Bytes::from(
                plain.map_err(|why| ApiError::new(limit.code, format!("cannot decompress the request body: {why}")))?,
            )
        }
    };
    Ok(WholeBody { bytes, reserved })
}

/// The body as it is on the wire. One frame, which is the common case, is not copied.
async fn read_plain(
    body: &mut Incoming,
    declared: usize,
    reserved: &mut Reserved,
    limit: BodyLimit,
) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole: Option<BytesMut> = None;
    let mut len = 0;
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let data = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return Err(ApiError::new(Code::ClientHangup, format!("the request body broke off: {error}")));
            }
        };
        let counted = len.max(declared);
        len += data.len();
        if len > limit.bytes_max {
            return Err(limit.too_large());
        }
        if len > counted && !reserved.grow(len - counted) {
            return Err(Failure::from(Unavailable::Busy { retry_after_ms: RETRY_AFTER_MS }).into());
        }
        match &mut whole {
            Some(whole) => whole.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut both = BytesMut::with_capacity(declared.max(first.len() + data.len()));
                both.extend_from_slice(&first);
                both.extend_from_slice(&data);
                whole = Some(both);
            }
        }
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

/// Reads and drops the rest of a body that is of no more use: closing on a client that still sends would reset the
/// connection before it has seen its answer.
pub(crate) async fn drain(mut body: Incoming) {
    let rest = async {
        let mut len = 0;
        while len < DRAIN_BYTES_MAX {
            match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => len += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => return,
            }
        }
    };
    // Whether it ended or not, the body is dropped now.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_no_more_than_it_has_and_gets_it_back() {
        let metrics = Arc::new(FrontMetrics::default());
        let budget = Rc::new(Budget::new(100, Arc::clone(&metrics)));
        let mut first = budget.reserve(60).expect("there is room");
        assert!(budget.reserve(41).is_none());
        assert!(!first.grow(41) && first.grow(40));
        let over = budget.take(50);
        assert_eq!(metrics.buffered_bytes.get(), 150);
        drop((first, over));
        assert_eq!(metrics.buffered_bytes.get(), 0);
        assert!(budget.reserve(100).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_memory_but_not_for_ever() {
        let budget = Rc::new(Budget::new(100, Arc::default()));
        let all = budget.reserve(100).expect("there is room");
        assert!(budget.reserve_soon(1).await.is_err());
        let give_back = async {
            tokio::time::sleep(ROOM_WAIT_MAX / 2).await;
            drop(all);
        };
        let (got, ()) = tokio::join!(budget.reserve_soon(100), give_back);
        assert!(got.is_ok());
    }
}
