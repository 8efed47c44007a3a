//! `AccountService`: basins and access tokens.

use api::grpc::{basin_name, config, decode, list_query, token, v1alpha};
use api::json::CreateBasin;
use api::{ApiError, Code};
use bytes::Bytes;
use engine::event::BasinInfo;
use model::token::{On, Operation};
use model::{BasinName, NamePrefix, TokenId};
use v1alpha::{
    CreateBasinRequest, DeleteBasinRequest, GetBasinConfigRequest, IssueAccessTokenRequest, ListAccessTokensRequest,
    ListBasinsRequest, ReconfigureBasinRequest, RevokeAccessTokenRequest,
};

use super::refused::Refused;
use super::{Call, Reply};
use crate::resource::request_token;

impl Call<'_> {
    pub(super) fn list_basins(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ListBasinsRequest = decode(message)?;
        self.access.permit(Operation::ListBasins, On::default())?;
        let page = list_query((&request.prefix, &request.start_after), request.limit, NamePrefix::of_basin)?;
        self.account(Operation::ListBasins);
        let (basins, has_more) = self.caller().list_basins(page);
        let basins = basins.iter().map(|basin| self.shown_basin(basin)).collect();
        Ok(Reply::of(&v1alpha::ListBasinsResponse { basins, has_more }))
    }

    pub(super) async fn create_basin(&self, message: Bytes) -> Result<Reply, Refused> {
        let CreateBasinRequest { basin, config, scope: _ } = decode(message)?;
        // One who may create no basin at all need not know what is wrong with this one.
        self.access.permit(Operation::CreateBasin, On::default())?;
        let config = config::basin_config(config.as_ref())?;
        let wanted = CreateBasin { basin: basin_name(&basin)?, config, location: None };
        self.account(Operation::CreateBasin);
        let (basin, _) = self.caller().create_basin(wanted, request_token(self.headers())?).await?;
        Ok(Reply::of(&v1alpha::CreateBasinResponse { info: Some(self.shown_basin(&basin)) }))
    }

    pub(super) async fn delete_basin(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: DeleteBasinRequest = decode(message)?;
        let basin = self.one_basin(Operation::DeleteBasin, &request.basin)?;
        self.caller().delete_basin(basin).await?;
        Ok(Reply::of(&v1alpha::DeleteBasinResponse {}))
    }

    pub(super) async fn reconfigure_basin(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ReconfigureBasinRequest = decode(message)?;
        let basin = self.one_basin(Operation::ReconfigureBasin, &request.basin)?;
        let mask = request.mask.as_ref().map(|mask| &*mask.paths);
        let change = config::basin_change(request.config.as_ref(), mask)?;
        let basin = self.caller().reconfigure_basin(basin, change).await?;
        let config = Some(config::shown_basin_config(&basin.config));
        Ok(Reply::of(&v1alpha::ReconfigureBasinResponse { config }))
    }

    pub(super) fn basin_config(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: GetBasinConfigRequest = decode(message)?;
        let basin = self.one_basin(Operation::GetBasinConfig, &request.basin)?;
        let basin = self.front.router.basin_named(&basin)?;
        let config = Some(config::shown_basin_config(&basin.config));
        Ok(Reply::of(&v1alpha::GetBasinConfigResponse { config }))
    }

    pub(super) async fn issue_token(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: IssueAccessTokenRequest = decode(message)?;
        self.access.permit(Operation::IssueAccessToken, On::default())?;
        let info = request.info.ok_or_else(|| ApiError::new(Code::Invalid, "info is missing"))?;
        let wanted = token::issue_access_token(info)?;
        self.account(Operation::IssueAccessToken);
        let secret = self.caller().issue_token(wanted).await?;
        Ok(Reply::of(&v1alpha::IssueAccessTokenResponse { access_token: secret.reveal().to_owned() }))
    }

    pub(super) async fn revoke_token(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: RevokeAccessTokenRequest = decode(message)?;
        let id = TokenId::try_from(&*request.id).map_err(|error| ApiError::new(Code::Invalid, error.0))?;
        self.account(Operation::RevokeAccessToken);
        // Once it is revoked nobody can say what it was.
        let info = self.front.gate.tokens().named(&id).map(|token| token::access_token_info(&token));
        self.caller().revoke_token(id).await?;
        Ok(Reply::of(&v1alpha::RevokeAccessTokenResponse { info }))
    }

    pub(super) fn list_tokens(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ListAccessTokensRequest = decode(message)?;
        self.access.permit(Operation::ListAccessTokens, On::default())?;
        let page = list_query((&request.prefix, &request.start_after), request.limit, NamePrefix::of_token)?;
        self.account(Operation::ListAccessTokens);
        let (tokens, has_more) = self.caller().list_tokens(&page);
        let access_tokens = tokens.iter().map(|token| token::access_token_info(token)).collect();
        Ok(Reply::of(&v1alpha::ListAccessTokensResponse { access_tokens, has_more }))
    }

    fn one_basin(&self, operation: Operation, name: &str) -> Result<BasinName, ApiError> {
        let basin = basin_name(name)?;
        self.access.permit(operation, On { basin: Some(&basin), ..On::default() })?;
        self.account(operation);
        Ok(basin)
    }

    fn shown_basin(&self, basin: &BasinInfo) -> v1alpha::BasinInfo {
        let state = match basin.deleted_at_ms {
            None => v1alpha::BasinState::Active,
            Some(_) => v1alpha::BasinState::Deleting,
        };
        let scope = match &*self.front.location {
            "aws:us-east-1" => v1alpha::BasinScope::AwsUsEast1,
            _ => v1alpha::BasinScope::Unspecified,
        };
        v1alpha::BasinInfo { name: basin.name.to_string(), state: state.into(), scope: scope.into() }
    }
}
