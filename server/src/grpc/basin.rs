//! `BasinService`: the streams of a basin.

use api::grpc::token::seconds;
use api::grpc::{config, decode, list_query, v1alpha};
use api::json;
use bytes::Bytes;
use model::token::Operation;
use model::{NamePrefix, ResolvedStreamConfig};
use v1alpha::{
    CreateStreamRequest, DeleteStreamRequest, GetStreamConfigRequest, ListStreamsRequest, ReconfigureStreamRequest,
};

use super::refused::Refused;
use super::{Call, Reply};
use crate::resource::request_token;

impl Call<'_> {
    pub(super) async fn list_streams(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ListStreamsRequest = decode(message)?;
        let basin = self.basin(&[Operation::ListStreams], None)?;
        let page = list_query((&request.prefix, &request.start_after), request.limit, NamePrefix::of_stream)?;
        let (streams, has_more) = self.caller().list_streams(&basin, page).await?;
        let streams = streams.iter().map(shown).collect();
        Ok(Reply::of(&v1alpha::ListStreamsResponse { streams, has_more }))
    }

    pub(super) async fn create_stream(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: CreateStreamRequest = decode(message)?;
        let name = self.stream(&request.stream)?;
        let basin = self.basin(&[Operation::CreateStream], Some(&name))?;
        let config = config::stream_config(request.config.as_ref())?;
        let token = request_token(self.headers())?;
        let (stream, _) = self.caller().create_stream(&basin, (name, config), token).await?;
        Ok(Reply::of(&v1alpha::CreateStreamResponse { info: Some(shown(&stream)) }))
    }

    pub(super) async fn delete_stream(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: DeleteStreamRequest = decode(message)?;
        let name = self.stream(&request.stream)?;
        let basin = self.basin(&[Operation::DeleteStream], Some(&name))?;
        self.caller().delete_stream(&basin, name).await?;
        Ok(Reply::of(&v1alpha::DeleteStreamResponse {}))
    }

    pub(super) async fn stream_config(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: GetStreamConfigRequest = decode(message)?;
        let name = self.stream(&request.stream)?;
        let basin = self.basin(&[Operation::GetStreamConfig], Some(&name))?;
        let config = self.caller().stream_config(&basin, name).await?;
        Ok(Reply::of(&v1alpha::GetStreamConfigResponse { config: shown_config(&config) }))
    }

    pub(super) async fn reconfigure_stream(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ReconfigureStreamRequest = decode(message)?;
        let name = self.stream(&request.stream)?;
        let basin = self.basin(&[Operation::ReconfigureStream], Some(&name))?;
        let mask = request.mask.as_ref().map(|mask| &*mask.paths);
        let change = config::stream_change(request.config.as_ref(), mask)?;
        let config = self.caller().reconfigure_stream(&basin, name, change).await?;
        Ok(Reply::of(&v1alpha::ReconfigureStreamResponse { config: shown_config(&config) }))
    }
}

fn shown(stream: &json::StreamInfo) -> v1alpha::StreamInfo {
    v1alpha::StreamInfo {
        name: stream.name.to_string(),
        created_at: seconds(stream.created_at_ms),
        deleted_at: stream.deleted_at_ms.map(seconds),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "messages have it optional")]
fn shown_config(config: &ResolvedStreamConfig) -> Option<v1alpha::StreamConfig> {
    Some(config::shown_stream_config(&config.to_config()))
}
