//! S2's own Rust SDK (0.35.3) against the server named by `S2_TARGET`: everything on HTTP/2 with prior knowledge.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use s2_sdk::append_session::AppendSessionConfig;
use s2_sdk::error::{
    AppendConditionFailed, AppendError, AppendSessionError, ReadError, ReadSessionError, RequestError, ServerError,
};
use s2_sdk::producer::ProducerConfig;
use s2_sdk::types::{
    AppendInput, AppendRecord, AppendRecordBatch, BasinConfig, BasinName, BasinReconfiguration, CommandRecord,
    Compression, CreateBasinInput, CreateStreamInput, DeleteBasinInput, DeleteStreamInput, EnsureOutput,
    EnsureStreamInput, FencingToken, Header, ListAllStreamsInput, ListBasinsInput, ListStreamsInput, ReadFrom,
    ReadInput, ReadLimits, ReadSessionConfig, ReadStart, ReadStop, ReconfigureBasinInput, ReconfigureStreamInput,
    RetentionPolicy, S2Config, S2Endpoints, StreamConfig, StreamName, StreamReconfiguration, TimestampingConfig,
    TimestampingMode,
};
use s2_sdk::{S2, S2Basin, S2Stream};

fn client(compression: Compression) -> S2 {
    let target = std::env::var("S2_TARGET").expect("S2_TARGET names the server");
    let endpoints = S2Endpoints::for_endpoint(&target).unwrap();
    S2::new(S2Config::new("ignored").with_endpoints(endpoints).with_compression(compression)).unwrap()
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{nanos}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn new_basin(s2: &S2, config: BasinConfig) -> (BasinName, S2Basin) {
    let name: BasinName = unique("rust").parse().unwrap();
    s2.create_basin(CreateBasinInput::new(name.clone()).with_config(config)).await.unwrap();
    (name.clone(), s2.basin(name))
}

async fn new_stream_with(compression: Compression, config: StreamConfig) -> S2Stream {
    let (_, basin) = new_basin(&client(compression), BasinConfig::new()).await;
    let name: StreamName = unique("stream").parse().unwrap();
    basin.create_stream(CreateStreamInput::new(name.clone()).with_config(config)).await.unwrap();
    basin.stream(name)
}

async fn new_stream() -> S2Stream {
    new_stream_with(Compression::None, StreamConfig::new()).await
}

fn batch(bodies: &[&str]) -> AppendInput {
    let records = bodies.iter().map(|body| AppendRecord::new(body.to_string()).unwrap());
    AppendInput::new(AppendRecordBatch::try_from_iter(records).unwrap())
}

fn command(record: CommandRecord) -> AppendInput {
    AppendInput::new(AppendRecordBatch::try_from_iter([record.into()]).unwrap())
}

fn from_seq_num(seq_num: u64) -> ReadInput {
    ReadInput::new().with_start(ReadStart::new().with_from(ReadFrom::SeqNum(seq_num)))
}

async fn bodies(stream: &S2Stream) -> Vec<String> {
    let read = stream.read(from_seq_num(0)).await.unwrap();
    read.records.iter().map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
}

fn code(error: RequestError) -> String {
    match error {
        RequestError::Server(ServerError { code, .. }) => code,
        other => panic!("not an answer of the server: {other}"),
    }
}

#[tokio::test]
async fn appends_are_acked_and_read_back() {
    let stream = new_stream().await;
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 0);
    let headers = vec![Header::new("k", "v"), Header::new("k", "")];
    let record = AppendRecord::new(vec![0u8, 255]).unwrap().with_headers(headers.clone()).unwrap();
    let ack = stream.append(AppendInput::new(AppendRecordBatch::try_from_iter([record]).unwrap())).await.unwrap();
    assert_eq!((ack.start.seq_num, ack.end.seq_num, ack.tail.seq_num), (0, 1, 1));
    let ack = stream.append(batch(&["b", "c"])).await.unwrap();
    assert_eq!((ack.start.seq_num, ack.end.seq_num, ack.tail), (1, 3, stream.check_tail().await.unwrap()));
    let read = stream.read(from_seq_num(0)).await.unwrap();
    assert_eq!(read.records.len(), 3);
    assert_eq!((read.records[0].body.as_ref(), &read.records[0].headers), ([0u8, 255].as_ref(), &headers));
    let limits = ReadStop::new().with_limits(ReadLimits::new().with_count(1));
    assert_eq!(stream.read(from_seq_num(1).with_stop(limits)).await.unwrap().records[0].body, "b");
}

#[tokio::test]
async fn reading_at_the_tail_is_a_typed_error_or_a_wait() {
    let stream = new_stream().await;
    stream.append(batch(&["a"])).await.unwrap();
    match stream.read(from_seq_num(1)).await {
        Err(ReadError::ReadUnwritten(tail)) => assert_eq!(tail.seq_num, 1),
        other => panic!("{other:?}"),
    }
    let waited = stream.read(from_seq_num(1).with_stop(ReadStop::new().with_wait(1))).await.unwrap();
    assert!(waited.records.is_empty());
    match stream.read_session(from_seq_num(9), ReadSessionConfig::default()).await {
        Err(ReadSessionError::Read(ReadError::ReadUnwritten(tail))) => assert_eq!(tail.seq_num, 1),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn conditions_fail_with_typed_errors() {
    let stream = new_stream().await;
    stream.append(batch(&["a"]).with_match_seq_num(0)).await.unwrap();
    match stream.append(batch(&["b"]).with_match_seq_num(0)).await {
        Err(AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(1))) => {}
        other => panic!("{other:?}"),
    }
    let mine: FencingToken = "mine".parse().unwrap();
    stream.append(command(CommandRecord::fence(mine.clone()))).await.unwrap();
    stream.append(batch(&["c"]).with_fencing_token(mine)).await.unwrap();
    match stream.append(batch(&["d"]).with_fencing_token("other".parse().unwrap())).await {
        Err(AppendError::ConditionFailed(AppendConditionFailed::FencingTokenMismatch(token))) => {
            assert_eq!(&*token, "mine")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stream.check_tail().await.unwrap().seq_num, 3);
}

#[tokio::test]
async fn a_pipelined_session_acks_in_order() {
    let stream = new_stream().await;
    let session = stream.append_session(AppendSessionConfig::new());
    let mut tickets = Vec::new();
    for i in 0..500 {
        tickets.push(session.submit(batch(&[&format!("record {i}")]).with_match_seq_num(i)).await.unwrap());
    }
    for (i, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.await.unwrap().start.seq_num, i as u64);
    }
    session.close().await.unwrap();
    assert_eq!(bodies(&stream).await.len(), 500);
}

#[tokio::test]
async fn a_failed_condition_ends_the_session_after_the_acks_before_it() {
    let stream = new_stream().await;
    let session = stream.append_session(AppendSessionConfig::new());
    let good = session.submit(batch(&["a"])).await.unwrap();
    let bad = session.submit(batch(&["b"]).with_match_seq_num(7)).await.unwrap();
    assert_eq!(good.await.unwrap().end.seq_num, 1);
    match bad.await {
        Err(AppendSessionError::Append(AppendError::ConditionFailed(AppendConditionFailed::SeqNumMismatch(1)))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(bodies(&stream).await, ["a"]);
}

#[tokio::test]
async fn full_batches_flow_through_a_session() {
    let stream = new_stream().await;
    let body = "x".repeat((1 << 20) - 8);
    let session = stream.append_session(AppendSessionConfig::new());
    let mut tickets = Vec::new();
    for _ in 0..16 {
        tickets.push(session.submit(batch(&[&body])).await.unwrap());
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    session.close().await.unwrap();
    let limits = ReadStop::new().with_limits(ReadLimits::new().with_count(16));
    let mut reader =
        stream.read_session(from_seq_num(0).with_stop(limits), ReadSessionConfig::default()).await.unwrap();
    let mut count = 0;
    while let Some(read) = reader.next().await {
        count += read.unwrap().records.iter().filter(|record| record.body.len() == body.len()).count();
    }
    assert_eq!(count, 16);
}

#[tokio::test]
async fn a_producer_batches_by_itself() {
    let stream = new_stream().await;
    let producer = stream.producer(ProducerConfig::default());
    let mut tickets = Vec::new();
    for i in 0..2500 {
        tickets.push(producer.submit(AppendRecord::new(format!("{i}")).unwrap()).await.unwrap());
    }
    for (i, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.await.unwrap().seq_num, i as u64);
    }
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_follower_catches_up_and_then_sees_what_others_append() {
    let stream = new_stream().await;
    stream.append(batch(&["old"])).await.unwrap();
    let mut session = stream.read_session(from_seq_num(0), ReadSessionConfig::default()).await.unwrap();
    let writer = {
        let stream = stream.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                stream.append(batch(&[&format!("live {i}")])).await.unwrap();
            }
        })
    };
    let mut next = 0;
    while next < 101 {
        let read = tokio::time::timeout(Duration::from_secs(20), session.next()).await.unwrap().unwrap().unwrap();
        for record in read.records {
            assert_eq!(record.seq_num, next);
            next += 1;
        }
    }
    writer.await.unwrap();
    let caught_up = session.caught_up();
    let idle = async { while session.next().await.is_some() {} };
    tokio::pin!(idle);
    let tail = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { tail = caught_up => tail.unwrap(), () = &mut idle => panic!("the follow ended") }
    });
    assert_eq!(tail.await.unwrap().seq_num, 101);
}

#[tokio::test]
async fn trim_hides_records() {
    let stream = new_stream().await;
    stream.append(batch(&["a", "b", "c"])).await.unwrap();
    stream.append(command(CommandRecord::trim(2))).await.unwrap();
    for _ in 0..300 {
        if stream.read(from_seq_num(0)).await.unwrap().records[0].seq_num == 2 {
            return assert_eq!(stream.check_tail().await.unwrap().seq_num, 4);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("still untrimmed");
}

#[tokio::test]
async fn compression_changes_nothing() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let stream = new_stream_with(compression, StreamConfig::new()).await;
        let body = "compressible ".repeat(1000);
        stream.append(batch(&[&body])).await.unwrap();
        let session = stream.append_session(AppendSessionConfig::new());
        session.submit(batch(&[&body])).await.unwrap().await.unwrap();
        session.close().await.unwrap();
        assert_eq!(bodies(&stream).await, [body.clone(), body.clone()]);
        let limits = ReadStop::new().with_limits(ReadLimits::new().with_count(2));
        let mut reader =
            stream.read_session(from_seq_num(0).with_stop(limits), ReadSessionConfig::default()).await.unwrap();
        while let Some(read) = reader.next().await {
            assert!(read.unwrap().records.iter().all(|record| record.body == body));
        }
    }
}

#[tokio::test]
async fn timestamping_modes() {
    let require = TimestampingConfig::new().with_mode(TimestampingMode::ClientRequire);
    let stream = new_stream_with(Compression::None, StreamConfig::new().with_timestamping(require)).await;
    match stream.append(batch(&["a"])).await {
        Err(AppendError::Request(error)) => assert_eq!(code(error), "invalid"),
        other => panic!("{other:?}"),
    }
    let arrival = TimestampingConfig::new().with_mode(TimestampingMode::Arrival);
    let stream = new_stream_with(Compression::None, StreamConfig::new().with_timestamping(arrival)).await;
    let record = AppendRecord::new("a").unwrap().with_timestamp(5);
    let ack = stream.append(AppendInput::new(AppendRecordBatch::try_from_iter([record]).unwrap())).await.unwrap();
    assert!(ack.start.timestamp > 1_000_000_000_000);
}

#[tokio::test]
async fn what_is_missing_or_taken_has_its_code() {
    let s2 = client(Compression::None);
    let (name, basin) = new_basin(&s2, BasinConfig::new()).await;
    let taken = s2.create_basin(CreateBasinInput::new(name)).await.unwrap_err();
    assert_eq!(code(taken), "resource_already_exists");
    let stream: StreamName = "s".parse().unwrap();
    assert_eq!(code(basin.get_stream_config(stream.clone()).await.unwrap_err()), "stream_not_found");
    match basin.stream(stream.clone()).append(batch(&["a"])).await {
        Err(AppendError::Request(error)) => assert_eq!(code(error), "stream_not_found"),
        other => panic!("{other:?}"),
    }
    let session = basin.stream(stream).append_session(AppendSessionConfig::new());
    let ticket = session.submit(batch(&["a"])).await;
    let failure = match ticket {
        Ok(ticket) => ticket.await.unwrap_err(),
        Err(failure) => failure,
    };
    assert_eq!(code(failure.request_error().unwrap().clone()), "stream_not_found");
    let nowhere: BasinName = unique("nowhere").parse().unwrap();
    assert_eq!(code(s2.get_basin_config(nowhere).await.unwrap_err()), "basin_not_found");
}

#[tokio::test]
async fn configs_are_created_ensured_and_reconfigured() {
    let s2 = client(Compression::None);
    let default = StreamConfig::new().with_storage_class("native").with_retention_policy(RetentionPolicy::Age(77));
    let (name, basin) = new_basin(&s2, BasinConfig::new().with_default_stream_config(default)).await;
    let stream: StreamName = "s".parse().unwrap();
    let ensure = || EnsureStreamInput::new("s".parse().unwrap());
    assert!(matches!(basin.ensure_stream(ensure()).await.unwrap(), EnsureOutput::Created(_)));
    assert!(matches!(basin.ensure_stream(ensure()).await.unwrap(), EnsureOutput::ConfigUnchanged(_)));
    let forever = StreamConfig::new().with_retention_policy(RetentionPolicy::Infinite);
    assert!(matches!(
        basin.ensure_stream(ensure().with_config(forever)).await.unwrap(),
        EnsureOutput::ConfigUpdated(_)
    ));
    let got = basin.get_stream_config(stream.clone()).await.unwrap();
    assert_eq!(got.storage_class.as_deref(), Some("native"));
    assert!(matches!(got.retention_policy, Some(RetentionPolicy::Infinite)));
    let change = StreamReconfiguration::new().with_retention_policy(RetentionPolicy::Age(5));
    let got = basin.reconfigure_stream(ReconfigureStreamInput::new(stream, change)).await.unwrap();
    assert!(matches!(got.retention_policy, Some(RetentionPolicy::Age(5))));
    let change = BasinReconfiguration::new().with_create_stream_on_append(true);
    let got = s2.reconfigure_basin(ReconfigureBasinInput::new(name, change)).await.unwrap();
    assert!(got.create_stream_on_append && !got.create_stream_on_read);
    basin.stream("made-by-append".parse().unwrap()).append(batch(&["a"])).await.unwrap();
}

#[tokio::test]
async fn streams_and_basins_are_listed_in_pages() {
    let s2 = client(Compression::None);
    let (name, basin) = new_basin(&s2, BasinConfig::new()).await;
    for i in 0..7 {
        let stream = format!("{}/{i}", if i < 4 { "a" } else { "b" });
        basin.create_stream(CreateStreamInput::new(stream.parse().unwrap())).await.unwrap();
    }
    let page =
        basin.list_streams(ListStreamsInput::new().with_prefix("a/".parse().unwrap()).with_limit(3)).await.unwrap();
    assert_eq!((page.values.len(), page.has_more), (3, true));
    let all: BTreeSet<String> =
        basin.list_all_streams(ListAllStreamsInput::new()).map(|info| info.unwrap().name.to_string()).collect().await;
    assert_eq!(all.len(), 7);
    let page = s2.list_basins(ListBasinsInput::new().with_prefix(name.to_string().parse().unwrap())).await.unwrap();
    assert_eq!(page.values.len(), 1);
}

#[tokio::test]
async fn a_deleted_stream_made_again_starts_from_zero() {
    let s2 = client(Compression::None);
    let (basin_name, basin) = new_basin(&s2, BasinConfig::new()).await;
    let name: StreamName = "again".parse().unwrap();
    basin.create_stream(CreateStreamInput::new(name.clone())).await.unwrap();
    basin.stream(name.clone()).append(batch(&["old"])).await.unwrap();
    basin.delete_stream(DeleteStreamInput::new(name.clone())).await.unwrap();
    let mut attempts = 0;
    while basin.create_stream(CreateStreamInput::new(name.clone())).await.is_err() {
        attempts += 1;
        assert!(attempts < 350, "the name stays taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(basin.stream(name).append(batch(&["new"])).await.unwrap().start.seq_num, 0);
    s2.delete_basin(DeleteBasinInput::new(basin_name)).await.unwrap();
}

#[tokio::test]
async fn more_requests_at_once_than_one_connection_takes() {
    let stream = new_stream().await;
    let appends = (0..300).map(|i| {
        let stream = stream.clone();
        async move { stream.append(batch(&[&format!("{i}")])).await.unwrap().start.seq_num }
    });
    let seq_nums: BTreeSet<u64> = futures::future::join_all(appends).await.into_iter().collect();
    assert_eq!(seq_nums, (0..300).collect());
}
