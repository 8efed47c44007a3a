// Single appends and what they may be held to: conditions, commands, timestamps, headers.

package rest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

func TestAppendsAreAckedAndReadBack(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	equal(t, must(stream.CheckTail(ctx))(t).Tail, s2.StreamPosition{})
	record := s2.AppendRecord{
		Body:    []byte{0, 255, 10, 13},
		Headers: []s2.Header{s2.NewHeader("k", "v"), s2.NewHeader("k", ""), {Name: []byte{254}, Value: []byte{0}}},
	}
	ack := must(stream.Append(ctx, command(record)))(t)
	equal(t, [3]uint64{ack.Start.SeqNum, ack.End.SeqNum, ack.Tail.SeqNum}, [3]uint64{0, 1, 1})
	ack = must(stream.Append(ctx, batch("", "c")))(t)
	equal(t, [2]uint64{ack.Start.SeqNum, ack.End.SeqNum}, [2]uint64{1, 3})
	equal(t, must(stream.CheckTail(ctx))(t).Tail, ack.Tail)
	read := must(stream.Read(ctx, from(0)))(t).Records
	equal(t, len(read), 3)
	equal(t, string(read[0].Body), string(record.Body))
	equal(t, len(read[0].Headers), 3)
	for i, header := range read[0].Headers {
		equal(t, string(header.Name), string(record.Headers[i].Name))
		equal(t, string(header.Value), string(record.Headers[i].Value))
	}
	equal(t, bodies(read[1:]), " c")
}

func TestMatchSeqNumAdmitsOneOfMany(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("a", "b").Records, MatchSeqNum: s2.Uint64(0)}))(t)
	_, err := stream.Append(ctx, &s2.AppendInput{Records: batch("c").Records, MatchSeqNum: s2.Uint64(0)})
	var mismatch *s2.SeqNumMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v", err)
	}
	equal(t, mismatch.ExpectedSeqNum, 2)
	equal(t, mismatch.Status, 412)

	var rivals sync.WaitGroup
	won := make(chan struct{}, 20)
	for range cap(won) {
		rivals.Add(1)
		go func() {
			defer rivals.Done()
			_, err := stream.Append(ctx, &s2.AppendInput{Records: batch("c").Records, MatchSeqNum: s2.Uint64(2)})
			var mismatch *s2.SeqNumMismatchError
			if err == nil {
				won <- struct{}{}
			} else if !errors.As(err, &mismatch) || mismatch.ExpectedSeqNum != 3 {
				t.Errorf("got %v", err)
			}
		}()
	}
	rivals.Wait()
	equal(t, len(won), 1)
	equal(t, bodies(must(stream.Read(ctx, from(0)))(t).Records), "a b c")
}

func TestAFenceKeepsOthersOut(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, command(s2.NewFenceCommandRecord("mine", nil))))(t)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("a").Records, FencingToken: s2.String("mine")}))(t)
	_, err := stream.Append(ctx, &s2.AppendInput{Records: batch("b").Records, FencingToken: s2.String("other")})
	var mismatch *s2.FencingTokenMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v", err)
	}
	equal(t, mismatch.ExpectedFencingToken, "mine")
	// Who names no token is let in, and may fence anew.
	must(stream.Append(ctx, command(s2.NewFenceCommandRecord("", nil))))(t)
	must(stream.Append(ctx, &s2.AppendInput{Records: batch("c").Records, FencingToken: s2.String("")}))(t)
	read := must(stream.Read(ctx, from(0)))(t).Records
	equal(t, bodies(read), "mine a  c")
	equal(t, read[0].IsCommandRecord(), true)
	equal(t, string(read[0].Headers[0].Value), "fence")
	others := must(stream.Read(ctx, &s2.ReadOptions{SeqNum: s2.Uint64(0), IgnoreCommandRecords: true}))(t)
	equal(t, bodies(others.Records), "a c")
}

func TestATrimHidesRecords(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a", "b", "c")))(t)
	must(stream.Append(ctx, command(s2.NewTrimCommandRecord(2, nil))))(t)
	// Trimmed records may be seen for a while.
	for must(stream.Read(ctx, from(0)))(t).Records[0].SeqNum != 2 {
		select {
		case <-ctx.Done():
			t.Fatal("still untrimmed")
		case <-time.After(50 * time.Millisecond):
		}
	}
	equal(t, must(stream.CheckTail(ctx))(t).Tail.SeqNum, 4)
}

func TestTimestampsAreKeptAsTheModeSays(t *testing.T) {
	ctx := start(t)
	at := func(timestamps ...uint64) *s2.AppendInput {
		input := &s2.AppendInput{}
		for _, timestamp := range timestamps {
			input.Records = append(input.Records, s2.AppendRecord{Timestamp: &timestamp, Body: []byte("x")})
		}
		return input
	}
	preferred := newStream(t, ctx)
	// One that goes back is lifted to the one before it.
	ack := must(preferred.Append(ctx, at(1000, 2000, 1500)))(t)
	equal(t, ack.Start.Timestamp, 1000)
	equal(t, ack.End.Timestamp, 2000)
	read := must(preferred.Read(ctx, &s2.ReadOptions{Timestamp: s2.Uint64(1001)}))(t).Records
	equal(t, len(read), 2)
	equal(t, [2]uint64{read[0].SeqNum, read[0].Timestamp}, [2]uint64{1, 2000})
	read = must(preferred.Read(ctx, &s2.ReadOptions{SeqNum: s2.Uint64(0), Until: s2.Uint64(2000)}))(t).Records
	equal(t, len(read), 1)
	ahead := uint64(time.Now().Add(time.Hour).UnixMilli())
	if capped := must(preferred.Append(ctx, at(ahead)))(t).End.Timestamp; capped >= ahead || capped < 1_000_000_000_000 {
		t.Fatalf("a timestamp in the future became %d", capped)
	}

	mode := func(mode s2.TimestampingMode, uncapped bool) *s2.StreamClient {
		config := &s2.StreamConfig{Timestamping: &s2.TimestampingConfig{Mode: &mode, Uncapped: &uncapped}}
		return newStreamOf(t, ctx, client(), config)
	}
	equal(t, must(mode(s2.TimestampingModeClientPrefer, true).Append(ctx, at(ahead)))(t).End.Timestamp, ahead)
	if arrived := must(mode(s2.TimestampingModeArrival, false).Append(ctx, at(5)))(t).End.Timestamp; arrived < 1_000_000_000_000 {
		t.Fatalf("the client's timestamp %d was kept", arrived)
	}
	_, err := mode(s2.TimestampingModeClientRequire, false).Append(ctx, batch("a"))
	refused(t, err, 422, "invalid")
}

func TestABatchThatContradictsTheRulesIsRefused(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	_, err := stream.Append(ctx, command(s2.AppendRecord{Headers: []s2.Header{s2.NewHeader("", "explode")}}))
	refused(t, err, 422, "invalid")
	unnamed := []s2.Header{s2.NewHeader("", "a"), s2.NewHeader("b", "c")}
	_, err = stream.Append(ctx, command(s2.AppendRecord{Headers: unnamed}))
	refused(t, err, 422, "invalid")
	_, err = stream.Append(ctx, command(s2.NewFenceCommandRecord(strings.Repeat("x", 37), nil)))
	refused(t, err, 422, "invalid")
	equal(t, must(stream.CheckTail(ctx))(t).Tail.SeqNum, 0)
}

func TestASealedStreamNeedsItsKey(t *testing.T) {
	ctx := start(t)
	cipher := s2.EncryptionAlgorithmAegis256
	basin := newBasin(t, ctx, client(), &s2.BasinConfig{StreamCipher: &cipher})
	info := must(basin.Streams.Create(ctx, s2.CreateStreamArgs{Stream: "sealed"}))(t)
	equal(t, *info.Cipher, cipher)
	key := must(s2.NewEncryptionKeyFromBytes([]byte(strings.Repeat("k", 32))))(t)
	holder := basin.StreamWithOptions("sealed", &s2.StreamOptions{EncryptionKey: &key})
	must(holder.Append(ctx, batch("secret")))(t)
	equal(t, bodies(must(holder.Read(ctx, from(0)))(t).Records), "secret")
	stranger := must(s2.NewEncryptionKeyFromBytes([]byte(strings.Repeat("s", 32))))(t)
	_, err := basin.StreamWithOptions("sealed", &s2.StreamOptions{EncryptionKey: &stranger}).Read(ctx, from(0))
	refused(t, err, 400, "decryption_failed")
}
