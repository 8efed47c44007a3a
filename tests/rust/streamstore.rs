//! S2's Rust SDK of the gRPC generation (crate `streamstore` 0.20.0) against the server named by `S2_TARGET`, in clear text:
//! its feature `connector` lets it connect without TLS.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use hyper_util::client::legacy::connect::HttpConnector;
use s2::client::{BasinEndpoint, ClientConfig, ClientError, S2Endpoints};
use s2::types::{
    AppendInput, AppendRecord, AppendRecordBatch, BasinName, CreateBasinRequest, CreateStreamRequest,
    DeleteBasinRequest, Header, ListBasinsRequest, ReadOutput, ReadRequest, ReadSessionRequest, ReadStart,
};

fn client(compression: bool) -> s2::Client {
    let target = std::env::var("S2_TARGET").expect("S2_TARGET names the server");
    let authority: http::uri::Authority = target.trim_start_matches("http://").parse().unwrap();
    let endpoints = S2Endpoints { account: authority.clone(), basin: BasinEndpoint::Direct(authority) };
    let config = ClientConfig::new("ignored").with_endpoints(endpoints).with_compression(compression);
    s2::Client::new_with_connector(config.with_uri_scheme(http::uri::Scheme::HTTP), HttpConnector::new())
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{nanos}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn new_stream(client: &s2::Client) -> s2::StreamClient {
    let name: BasinName = unique("streamstore").parse().unwrap();
    client.create_basin(CreateBasinRequest::new(name.clone())).await.unwrap();
    let basin = client.basin_client(name);
    basin.create_stream(CreateStreamRequest::new("a/stream")).await.unwrap();
    basin.stream_client("a/stream")
}

fn batch(bodies: &[String]) -> AppendInput {
    let records = bodies
        .iter()
        .map(|body| AppendRecord::new(body.clone()).unwrap().with_headers(vec![Header::new("name", "value")]).unwrap());
    AppendInput::new(AppendRecordBatch::try_from_iter(records).unwrap())
}

#[tokio::test]
async fn records_go_both_ways_in_sessions_and_alone() {
    for compression in [false, true] {
        let stream = new_stream(&client(compression)).await;
        let bodies: Vec<String> = (0..300).map(|i| format!("{i:03}").repeat(100)).collect();
        let ack = stream.append(batch(&bodies[..10]).with_match_seq_num(0u64)).await.unwrap();
        assert_eq!((ack.start.seq_num, ack.end.seq_num, ack.tail.seq_num), (0, 10, 10));
        let inputs: Vec<_> = bodies[10..].chunks(7).map(batch).collect();
        let count = inputs.len();
        let acks: Vec<_> = stream.append_session(futures::stream::iter(inputs)).await.unwrap().collect().await;
        assert_eq!(acks.len(), count);
        assert_eq!(acks.last().unwrap().as_ref().unwrap().end.seq_num, 300);
        assert_eq!(stream.check_tail().await.unwrap().seq_num, 300);
        let mut read = Vec::new();
        let mut session = stream.read_session(ReadSessionRequest::new(ReadStart::SeqNum(0))).await.unwrap();
        while read.len() < bodies.len() {
            let ReadOutput::Batch(batch) = session.next().await.unwrap().unwrap() else { panic!("records come first") };
            read.extend(batch.records);
        }
        assert!(read.iter().zip(0..).all(|(record, seq_num)| record.seq_num == seq_num && record.headers.len() == 1));
        assert!(read.iter().map(|record| &record.body[..]).eq(bodies.iter().map(String::as_bytes)));
        let beyond = stream.read(ReadRequest::new(ReadStart::SeqNum(999))).await.unwrap();
        assert!(matches!(beyond, ReadOutput::NextSeqNum(300)), "{beyond:?}");
    }
}

#[tokio::test]
async fn refusals_are_statuses() {
    let client = client(true);
    let stream = new_stream(&client).await;
    let refused = stream.append(batch(&["x".into()]).with_match_seq_num(9u64)).await.unwrap_err();
    let ClientError::Service(status) = refused else { panic!("{refused:?}") };
    assert_eq!((status.code() as i32, status.message()), (9, "sequence number mismatch: the next record gets 0"));
    let missing = client.get_basin_config("no-such-basin".parse().unwrap()).await.unwrap_err();
    let ClientError::Service(status) = missing else { panic!("{missing:?}") };
    assert_eq!(status.code() as i32, 5);
}

#[tokio::test]
async fn basins_are_listed_and_deleted() {
    let client = client(false);
    let name = unique("streamstore");
    client.create_basin(CreateBasinRequest::new(name.parse().unwrap())).await.unwrap();
    let listed = client.list_basins(ListBasinsRequest::new().with_prefix(&name)).await.unwrap();
    let names: BTreeSet<_> = listed.basins.iter().map(|basin| basin.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from([&*name]));
    client.delete_basin(DeleteBasinRequest::new(name.parse().unwrap()).with_if_exists(true)).await.unwrap();
}
