//! A shard takes a batch under its stream's cipher and under no other, whoever made the stream and when.

use model::config::Cipher;
use model::{Batch, Failure, Rejected};

use super::rig::{Rig, append_op, batch, command, spec, target};
use crate::event::{Append, Op, Reply, StreamSpec};

const CIPHERS: [Option<Cipher>; 3] = [None, Some(Cipher::Aegis256), Some(Cipher::Aes256Gcm)];

fn create(rig: &mut Rig, stream: &str, cipher: Option<Cipher>) {
    let spec = StreamSpec { cipher, ..spec() };
    rig.ask(Op::CreateStream { target: target(stream), spec, request_key: None });
}

/// The batch as a front would seal it, with an envelope that hides nothing.
fn sealed(batch: &Batch, cipher: Option<Cipher>) -> Batch {
    let Some(cipher) = cipher else { return batch.clone() };
    let envelope = |_: u32, clear: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(clear);
        Ok::<(), ()>(())
    };
    model::sealed::seal(batch, cipher, 0, envelope).expect("it cannot fail")
}

#[test]
fn a_batch_under_another_cipher_is_given_back_and_nothing_happens() {
    for theirs in CIPHERS {
        let mut rig = Rig::new();
        create(&mut rig, "s", theirs);
        for (ours, bodies) in CIPHERS.into_iter().flat_map(|c| [(c, batch(&[b"x"])), (c, command("fence", b"t"))]) {
            let before = rig.read_all("s", 0).len();
            let reply = rig.ask(Op::Append(append_op("s", sealed(&bodies, ours))));
            match reply {
                Reply::Appended(_) => assert_eq!(ours, theirs),
                Reply::OtherCipher(_, cipher) => assert!(cipher == theirs && ours != theirs),
                other => panic!("{other:?}"),
            }
            assert_eq!(rig.read_all("s", 0).len(), before + usize::from(ours == theirs));
        }
    }
}

#[test]
fn the_cipher_outlives_a_restart_and_the_basin_has_no_say() {
    let mut rig = Rig::new();
    create(&mut rig, "s", Some(Cipher::Aegis256));
    assert!(matches!(
        rig.ask(Op::Append(append_op("s", sealed(&batch(&[b"a", b"b"]), Some(Cipher::Aegis256))))),
        Reply::Appended(a) if a.end.seq_num == 2
    ));
    let (mut rig, _) = Rig::recover(rig.disk).expect("the log is whole");
    // The basin of `create` has no cipher by now.
    assert!(matches!(
        rig.ask(Op::Append(append_op("s", batch(&[b"x"])))),
        Reply::OtherCipher(_, Some(Cipher::Aegis256))
    ));
    let read = rig.read("s", crate::event::ReadStart::SeqNum(0));
    let Reply::Read(read) = read else { panic!("{read:?}") };
    assert_eq!((read.cipher, read.batches[0].metered_bytes), (Some(Cipher::Aegis256), 18));
}

#[test]
fn limits_count_what_a_record_was_before_it_was_sealed() {
    let mut rig = Rig::new();
    create(&mut rig, "s", Some(Cipher::Aes256Gcm));
    let bodies: Vec<&[u8]> = vec![&[b'x'; 92]; 10];
    rig.ask(Op::Append(append_op("s", sealed(&batch(&bodies), Some(Cipher::Aes256Gcm)))));
    for (bytes, records) in [(99, 0), (100, 1), (350, 3), (1000, 10)] {
        let limits = crate::event::ReadLimits { bytes: Some(bytes), batches: 4, ..Default::default() };
        let start = crate::event::ReadStart::SeqNum(0);
        let read =
            crate::event::Read { target: target("s"), create: None, start, clamp: false, may_follow: true, limits };
        let Reply::Read(read) = rig.ask(Op::Read(read)) else { panic!("a read") };
        assert_eq!(read.batches.iter().map(|b| b.records_count).sum::<u64>(), records, "{bytes}");
    }
}

#[test]
fn a_session_whose_batch_is_given_back_goes_no_further() {
    let mut rig = Rig::new();
    create(&mut rig, "s", Some(Cipher::Aegis256));
    let session = Some(crate::event::SessionId { front: 0, number: 1 });
    let clear = Append { session, ..append_op("s", batch(&[b"x"])) };
    assert!(matches!(rig.ask(Op::Append(clear)), Reply::OtherCipher(..)));
    let next = Append { session, ..append_op("s", sealed(&batch(&[b"x"]), Some(Cipher::Aegis256))) };
    assert!(matches!(rig.ask(Op::Append(next)), Reply::Failed(Failure::Unavailable(_))));
    assert!(!matches!(rig.tail("s"), Reply::Failed(Failure::Rejected(Rejected::StreamNotFound(..)))));
}
