//! What an append session looks like on the wire: s2s frames or gRPC messages.

use api::grpc::append::{self, AppendInput};
use api::grpc::frame::MessageDecoder;
use api::s2s::{self, Flags, Frame, FrameDecoder};
use api::{ApiError, AppendAck, AppendConditions, Code, Compression, proto};
use bytes::{Bytes, BytesMut};
use model::Batch;

use api::compression::Compressor;

/// The wire of a session.
pub(crate) enum AppendWire {
    /// s2s frames.
    S2s(FrameDecoder),
    /// Messages of `AppendSession`.
    Grpc(Box<GrpcInputs>),
}

/// Inputs of `AppendSession`: the first was decoded to know the stream.
pub(crate) struct GrpcInputs {
    decoder: MessageDecoder,
    /// As the first input names it.
    stream: String,
    first: Option<(usize, Batch, AppendConditions)>,
}

/// One input: its bytes as they came, its records, and what must hold.
pub(crate) type Input = (usize, Batch, AppendConditions);

impl AppendWire {
    /// s2s, from the start of the body.
    #[must_use]
    pub(crate) fn s2s() -> Self {
        Self::S2s(FrameDecoder::new())
    }

    /// gRPC, behind the `first` input, which had `bytes`.
    #[must_use]
    pub(crate) fn grpc(decoder: MessageDecoder, (bytes, first): (usize, AppendInput)) -> Self {
        let AppendInput { stream, batch, conditions } = first;
        Self::Grpc(Box::new(GrpcInputs { decoder, stream, first: Some((bytes, batch, conditions)) }))
    }

    /// Takes the next chunk of the body.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        match self {
            Self::S2s(decoder) => decoder.push(chunk),
            Self::Grpc(inputs) => inputs.decoder.push(chunk),
        }
    }

    /// The next input; `None` when more bytes are needed.
    ///
    /// # Errors
    /// 400 or 422; nothing more can be decoded.
    pub(crate) fn next_input(&mut self) -> Result<Option<Input>, ApiError> {
        match self {
            Self::S2s(decoder) => match decoder.next_frame()? {
                None => Ok(None),
                Some(Frame::Terminal { .. }) => Err(s2s::unexpected_terminal()),
                Some(Frame::Regular { payload, .. }) => {
                    let bytes = payload.len();
                    let (batch, conditions) = s2s::append_input(payload)?;
                    Ok(Some((bytes, batch, conditions)))
                }
            },
            Self::Grpc(inputs) => inputs.next(),
        }
    }

    /// To be asked at the end of the body.
    ///
    /// # Errors
    /// 400 `bad_frame` when it ends inside a frame.
    pub(crate) fn finish(&self) -> Result<(), ApiError> {
        match self {
            Self::S2s(decoder) => decoder.finish(),
            Self::Grpc(inputs) => inputs.decoder.finish(),
        }
    }

    /// Adds an ack to what is sent.
    pub(crate) fn put_ack(&self, out: &mut BytesMut, ack: &AppendAck, reconnect_advised: bool) {
        match self {
            Self::S2s(_) => {
                let ack = proto::append_ack(ack);
                out.extend_from_slice(&s2s::frame_header(ack.len(), Flags { reconnect_advised, ..Flags::default() }));
                out.extend_from_slice(&ack);
            }
            // A connection that is wound up says so by itself (GOAWAY); acks are too small to be compressed.
            Self::Grpc(_) => {
                let ack = append::append_response(ack).framed(&mut Compressor::new(Compression::None));
                out.extend_from_slice(&ack);
            }
        }
    }

    /// Adds the error that ends the session to what is sent, if it is sent there; gRPC says it in trailers.
    pub(crate) fn put_end(&self, out: &mut BytesMut, error: &ApiError) {
        match self {
            Self::S2s(_) => out.extend_from_slice(&s2s::terminal(error)),
            Self::Grpc(_) => {}
        }
    }
}

impl GrpcInputs {
    fn next(&mut self) -> Result<Option<Input>, ApiError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(message) = self.decoder.next_message()? else { return Ok(None) };
        let bytes = message.len();
        let AppendInput { stream, batch, conditions } = append::append_request(message)?;
        if !stream.is_empty() && stream != self.stream {
            return Err(ApiError::new(
                Code::Invalid,
                "stream must be the one of the session's first message, or empty",
            ));
        }
        Ok(Some((bytes, batch, conditions)))
    }
}
