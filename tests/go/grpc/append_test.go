// Single appends and what they may be held to: conditions, commands, timestamps, headers.

package grpc

import (
	"strings"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
	"google.golang.org/grpc/codes"
)

func TestAppendsAreAckedAndReadBack(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	equal(t, *must(stream.CheckTail(ctx))(t), s2.CheckTailResponse{})
	record := s2.AppendRecord{
		Body: []byte{0, 255, 10, 13},
		Headers: []s2.Header{
			{Name: []byte("k"), Value: []byte("v")}, {Name: []byte("k")}, {Name: []byte{254}, Value: []byte{0}},
		},
	}
	output := must(stream.Append(ctx, input(record)))(t)
	equal(t, [3]uint64{output.StartSeqNum, output.EndSeqNum, output.NextSeqNum}, [3]uint64{0, 1, 1})
	output = must(stream.Append(ctx, batch("", "c")))(t)
	equal(t, [2]uint64{output.StartSeqNum, output.EndSeqNum}, [2]uint64{1, 3})
	tail := must(stream.CheckTail(ctx))(t)
	equal(t, *tail, s2.CheckTailResponse{NextSeqNum: output.NextSeqNum, LastTimestamp: output.LastTimestamp})
	got := read(t, ctx, stream, from(0))
	equal(t, len(got), 3)
	equal(t, string(got[0].Body), string(record.Body))
	equal(t, len(got[0].Headers), 3)
	for i, header := range got[0].Headers {
		equal(t, string(header.Name), string(record.Headers[i].Name))
		equal(t, string(header.Value), string(record.Headers[i].Value))
	}
	equal(t, bodies(got[1:]), " c")
}

func TestConditionsThatFailChangeNothing(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("a", "b").Records, MatchSeqNum: some(uint64(0))}))(t)
	_, err := stream.Append(ctx, &s2.AppendInput{Records: batch("c").Records, MatchSeqNum: some(uint64(0))})
	refused(t, err, codes.FailedPrecondition, "sequence number")
	must(stream.Append(ctx, command(s2.CommandRecordFence{FencingToken: []byte("mine")})))(t)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("c").Records, FencingToken: some("mine")}))(t)
	_, err = stream.Append(ctx, &s2.AppendInput{Records: batch("d").Records, FencingToken: some("other")})
	refused(t, err, codes.FailedPrecondition, "fencing token")
	// Who names no token is let in, and may fence anew.
	must(stream.Append(ctx, command(s2.CommandRecordFence{})))(t)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("e").Records, FencingToken: some("")}))(t)
	got := read(t, ctx, stream, from(0))
	equal(t, bodies(got), "a b mine c  e")
	equal(t, string(got[2].Headers[0].Name)+string(got[2].Headers[0].Value), "fence")
}

func TestATrimHidesRecords(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a", "b", "c")))(t)
	must(stream.Append(ctx, command(s2.CommandRecordTrim{SeqNum: 2})))(t)
	// Trimmed records may be seen for a while.
	for read(t, ctx, stream, from(0))[0].SeqNum != 2 {
		select {
		case <-ctx.Done():
			t.Fatal("still untrimmed")
		case <-time.After(50 * time.Millisecond):
		}
	}
	equal(t, must(stream.CheckTail(ctx))(t).NextSeqNum, 4)
}

func TestTimestampsAreKeptAsTheModeSays(t *testing.T) {
	ctx, s := start(t), client(t)
	at := func(timestamps ...uint64) *s2.AppendInput {
		var records []s2.AppendRecord
		for _, timestamp := range timestamps {
			records = append(records, s2.AppendRecord{Timestamp: &timestamp, Body: []byte("x")})
		}
		return input(records...)
	}
	mode := func(timestamping s2.Timestamping) *s2.StreamClient {
		return newStreamOf(t, ctx, s, &s2.StreamConfig{Timestamping: &timestamping})
	}
	preferred := mode(s2.Timestamping{})
	// One that goes back is lifted to the one before it.
	output := must(preferred.Append(ctx, at(1000, 2000, 1500)))(t)
	equal(t, [3]uint64{output.StartTimestamp, output.EndTimestamp, output.LastTimestamp}, [3]uint64{1000, 2000, 2000})
	got := read(t, ctx, preferred, &s2.ReadRequest{Start: s2.ReadStartTimestamp(1001)})
	equal(t, len(got), 2)
	equal(t, [2]uint64{got[0].SeqNum, got[0].Timestamp}, [2]uint64{1, 2000})
	got = read(t, ctx, preferred, &s2.ReadRequest{Start: s2.ReadStartSeqNum(0), Until: some(uint64(2000))})
	equal(t, len(got), 1)

	ahead := uint64(time.Now().Add(time.Hour).UnixMilli())
	if capped := must(preferred.Append(ctx, at(ahead)))(t).EndTimestamp; capped >= ahead || capped < 1_000_000_000_000 {
		t.Fatalf("a timestamp in the future became %d", capped)
	}
	equal(t, must(mode(s2.Timestamping{Uncapped: some(true)}).Append(ctx, at(ahead)))(t).EndTimestamp, ahead)
	arrival := mode(s2.Timestamping{Mode: s2.TimestampingModeClientArrival})
	if arrived := must(arrival.Append(ctx, at(5)))(t).EndTimestamp; arrived < 1_000_000_000_000 {
		t.Fatalf("the client's timestamp became %d", arrived)
	}
	_, err := mode(s2.Timestamping{Mode: s2.TimestampingModeClientRequire}).Append(ctx, batch("a"))
	refused(t, err, codes.InvalidArgument, "timestamp")
}

func TestABatchThatContradictsTheRulesIsRefused(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	_, err := stream.Append(ctx, input(s2.AppendRecord{Headers: []s2.Header{{Value: []byte("explode")}}}))
	refused(t, err, codes.InvalidArgument, "")
	_, err = stream.Append(ctx, input())
	refused(t, err, codes.InvalidArgument, "")
	_, err = stream.Append(ctx, command(s2.CommandRecordFence{FencingToken: []byte(strings.Repeat("x", 37))}))
	refused(t, err, codes.InvalidArgument, "")
	equal(t, must(stream.CheckTail(ctx))(t).NextSeqNum, 0)
}
