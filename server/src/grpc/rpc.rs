//! The methods of the package, by their paths.

use crate::http::route::{APPEND_SESSION_ROW, READ_SESSION_ROW, Route};
use http::Method;

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what the package calls so")]
pub(crate) enum Rpc {
    ListBasins,
    CreateBasin,
    DeleteBasin,
    ReconfigureBasin,
    GetBasinConfig,
    IssueAccessToken,
    RevokeAccessToken,
    ListAccessTokens,
    ListStreams,
    CreateStream,
    DeleteStream,
    GetStreamConfig,
    ReconfigureStream,
    CheckTail,
    Append,
    AppendSession,
    Read,
    ReadSession,
    Acquire,
    Renew,
    Release,
    Inspect,
}

/// The services of the package.
pub(crate) const SERVICES: [&str; 4] =
    ["s2.v1alpha.AccountService", "s2.v1alpha.BasinService", "s2.v1alpha.StreamService", "s2.v1alpha.LeaseService"];

impl Rpc {
    /// The method of a path.
    #[must_use]
    pub(crate) fn parse(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/s2.v1alpha.")? {
            "AccountService/ListBasins" => Self::ListBasins,
            "AccountService/CreateBasin" => Self::CreateBasin,
            "AccountService/DeleteBasin" => Self::DeleteBasin,
            "AccountService/ReconfigureBasin" => Self::ReconfigureBasin,
            "AccountService/GetBasinConfig" => Self::GetBasinConfig,
            "AccountService/IssueAccessToken" => Self::IssueAccessToken,
            "AccountService/RevokeAccessToken" => Self::RevokeAccessToken,
            "AccountService/ListAccessTokens" => Self::ListAccessTokens,
            "BasinService/ListStreams" => Self::ListStreams,
            "BasinService/CreateStream" => Self::CreateStream,
            "BasinService/DeleteStream" => Self::DeleteStream,
            "BasinService/GetStreamConfig" => Self::GetStreamConfig,
            "BasinService/ReconfigureStream" => Self::ReconfigureStream,
            "StreamService/CheckTail" => Self::CheckTail,
            "StreamService/Append" => Self::Append,
            "StreamService/AppendSession" => Self::AppendSession,
            "StreamService/Read" => Self::Read,
            "StreamService/ReadSession" => Self::ReadSession,
            "LeaseService/Acquire" => Self::Acquire,
            "LeaseService/Renew" => Self::Renew,
            "LeaseService/Release" => Self::Release,
            "LeaseService/Inspect" => Self::Inspect,
            _ => return None,
        })
    }

    /// Its row in the metrics: that of the REST route which does the same.
    #[must_use]
    pub(crate) fn row(self) -> usize {
        let (route, method) = match self {
            Self::ListBasins | Self::CreateBasin => (Route::Basins, Method::GET),
            Self::DeleteBasin | Self::ReconfigureBasin | Self::GetBasinConfig => (Route::Basin(""), Method::GET),
            Self::IssueAccessToken | Self::ListAccessTokens => (Route::AccessTokens, Method::GET),
            Self::RevokeAccessToken => (Route::AccessToken(""), Method::DELETE),
            Self::ListStreams | Self::CreateStream => (Route::Streams, Method::GET),
            Self::DeleteStream | Self::GetStreamConfig | Self::ReconfigureStream => (Route::Stream(""), Method::GET),
            Self::CheckTail => (Route::Tail(""), Method::GET),
            Self::Append => (Route::Records(""), Method::POST),
            Self::Read => (Route::Records(""), Method::GET),
            Self::Acquire | Self::Renew | Self::Release | Self::Inspect => (Route::Lease(""), Method::GET),
            Self::AppendSession => return APPEND_SESSION_ROW,
            Self::ReadSession => return READ_SESSION_ROW,
        };
        route.metrics_row(&method)
    }

    /// Whether it may have done something although its answer never came.
    #[must_use]
    pub(crate) const fn changes_something(self) -> bool {
        match self {
            Self::ListBasins
            | Self::GetBasinConfig
            | Self::ListAccessTokens
            | Self::ListStreams
            | Self::GetStreamConfig
            | Self::CheckTail
            | Self::Read
            | Self::ReadSession
            | Self::Inspect => false,
            Self::CreateBasin
            | Self::DeleteBasin
            | Self::ReconfigureBasin
            | Self::IssueAccessToken
            | Self::RevokeAccessToken
            | Self::CreateStream
            | Self::DeleteStream
            | Self::ReconfigureStream
            | Self::Append
            | Self::AppendSession
            | Self::Acquire
            | Self::Renew
            | Self::Release => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::http::route::ROUTE_NAMES;

    /// The least that is to be known of descriptors to find the methods in them.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct File {
        #[prost(string, tag = "2")]
        package: String,
        #[prost(message, repeated, tag = "6")]
        services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Service {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "2")]
        methods: Vec<Named>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }

    #[test]
    fn every_method_of_the_package_is_served() {
        let files = Files::decode(api::grpc::DESCRIPTORS).expect("descriptors").files;
        let mut count = 0;
        for file in &files {
            for service in &file.services {
                assert!(SERVICES.contains(&&*format!("{}.{}", file.package, service.name)));
                for method in &service.methods {
                    let path = format!("/{}.{}/{}", file.package, service.name, method.name);
                    let rpc = Rpc::parse(&path).unwrap_or_else(|| panic!("{path} is not served"));
                    assert_eq!(format!("{rpc:?}"), method.name);
                    assert!(rpc.row() < ROUTE_NAMES.len());
                    count += 1;
                }
            }
        }
        assert_eq!(count, 22, "18 methods of S2 and 4 of leases");
        for path in ["/s2.v1alpha.StreamService/", "/s2.v1.StreamService/Append", "/", ""] {
            assert_eq!(Rpc::parse(path), None, "{path}");
        }
    }
}
