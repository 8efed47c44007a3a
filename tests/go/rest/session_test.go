// Append sessions with many batches in flight, read sessions to the tail and beyond it.

package rest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

func submit(t *testing.T, ctx context.Context, session *s2.AppendSession, input *s2.AppendInput) *s2.BatchSubmitTicket {
	t.Helper()
	return must(must(session.Submit(input))(t).Wait(ctx))(t)
}

func ackOf(t *testing.T, ctx context.Context, ticket *s2.BatchSubmitTicket) *s2.AppendAck {
	t.Helper()
	return must(ticket.Ack(ctx))(t)
}

// The first `count` records, by a session.
func readSession(t *testing.T, ctx context.Context, stream *s2.StreamClient, count uint64) []s2.SequencedRecord {
	t.Helper()
	session := must(stream.ReadSession(ctx, &s2.ReadOptions{SeqNum: s2.Uint64(0), Count: &count}))(t)
	defer session.Close()
	var records []s2.SequencedRecord
	for session.Next() {
		records = append(records, session.Record())
	}
	succeeds(t, session.Err())
	return records
}

func TestAPipelinedSessionAcksInOrder(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	session := must(stream.AppendSession(ctx, nil))(t)
	var tickets []*s2.BatchSubmitTicket
	for i := range uint64(500) {
		// Each condition holds only if the batches arrive in order.
		input := &s2.AppendInput{Records: batch(fmt.Sprint(i), "").Records, MatchSeqNum: s2.Uint64(2 * i)}
		tickets = append(tickets, submit(t, ctx, session, input))
	}
	for i, ticket := range tickets {
		ack := ackOf(t, ctx, ticket)
		equal(t, [2]uint64{ack.Start.SeqNum, ack.End.SeqNum}, [2]uint64{2 * uint64(i), 2*uint64(i) + 2})
	}
	succeeds(t, session.Close())
	equal(t, session.LastAckedPosition().End.SeqNum, 1000)
	for i, record := range readSession(t, ctx, stream, 1000) {
		equal(t, record.SeqNum, uint64(i))
		if i%2 == 0 {
			equal(t, string(record.Body), fmt.Sprint(i/2))
		}
	}
}

// The client hears of a session's acks, of its error and of its end from two channels, in no order. An error close behind an ack
// can go unheard; the batch then runs into its timeout and goes out again in another session. Hence the ack is awaited first,
// and the timeout is short.
func TestAFailedConditionEndsTheSessionAfterTheAcksBeforeIt(t *testing.T) {
	ctx := start(t)
	stubborn := &s2.RetryConfig{MaxAttempts: 50, MaxBaseDelay: 100 * time.Millisecond}
	options := s2.ClientOptions{RetryConfig: stubborn, RequestTimeout: time.Second}
	stream := newStreamOf(t, ctx, clientWith("ignored", options), nil)
	session := must(stream.AppendSession(ctx, nil))(t)
	equal(t, ackOf(t, ctx, submit(t, ctx, session, batch("a"))).End.SeqNum, 1)
	bad := submit(t, ctx, session, &s2.AppendInput{Records: batch("b").Records, MatchSeqNum: s2.Uint64(7)})
	_, err := bad.Ack(ctx)
	var mismatch *s2.SeqNumMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v", err)
	}
	equal(t, mismatch.ExpectedSeqNum, 1)
	succeeds(t, session.Close())
	equal(t, must(stream.CheckTail(ctx))(t).Tail.SeqNum, 1)
}

func TestASessionOnAMissingStreamIsRefused(t *testing.T) {
	ctx := start(t)
	missing := newBasin(t, ctx, client(), nil).Stream("missing")
	session := must(missing.AppendSession(ctx, nil))(t)
	_, err := submit(t, ctx, session, batch("a")).Ack(ctx)
	refused(t, err, 404, "stream_not_found")
	succeeds(t, session.Close())
	reader := must(missing.ReadSession(ctx, from(0)))(t)
	equal(t, reader.Next(), false)
	refused(t, reader.Err(), 404, "stream_not_found")
}

func TestAReadSessionBeyondTheTailIsRefused(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a")))(t)
	reader := must(stream.ReadSession(ctx, from(9)))(t)
	equal(t, reader.Next(), false)
	var beyond *s2.RangeNotSatisfiableError
	if !errors.As(reader.Err(), &beyond) || beyond.Tail == nil {
		t.Fatalf("got %v", reader.Err())
	}
	equal(t, beyond.Tail.SeqNum, 1)
}

func TestAProducerBatchesByItself(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	session := must(stream.AppendSession(ctx, nil))(t)
	producer := s2.NewProducer(ctx, s2.NewBatcher(ctx, &s2.BatchingOptions{MatchSeqNum: s2.Uint64(0)}), session)
	var tickets []*s2.RecordSubmitTicket
	for i := range 2500 {
		record := s2.AppendRecord{Body: []byte(fmt.Sprint(i))}
		tickets = append(tickets, must(must(producer.Submit(record))(t).Wait(ctx))(t))
	}
	for i, ticket := range tickets {
		equal(t, must(ticket.Ack(ctx))(t).SeqNum(), uint64(i))
	}
	succeeds(t, producer.Close())
	succeeds(t, session.Close())
}

func TestAFollowerCatchesUpAndThenSeesWhatOthersAppend(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("0", "1", "2")))(t)
	follower := must(stream.ReadSession(ctx, from(0)))(t)
	defer follower.Close()
	for i := range uint64(103) {
		if i >= 3 {
			must(stream.Append(ctx, batch(fmt.Sprint(i))))(t)
		}
		if !follower.Next() {
			t.Fatalf("the follow ended: %v", follower.Err())
		}
		equal(t, follower.Record().SeqNum, i)
		equal(t, string(follower.Record().Body), fmt.Sprint(i))
	}
	equal(t, follower.NextReadPosition().SeqNum, 103)
}

// The client gives up on a session that is silent for 20 s, and this one may not try again.
func TestHeartbeatsKeepAnIdleFollowerOpen(t *testing.T) {
	ctx := start(t)
	s := clientWith("ignored", s2.ClientOptions{RetryConfig: &s2.RetryConfig{MaxAttempts: 1}})
	stream := newStreamOf(t, ctx, s, nil)
	must(stream.Append(ctx, batch("a")))(t)
	follower := must(stream.ReadSession(ctx, from(1)))(t)
	defer follower.Close()
	ended := make(chan string, 1)
	go func() {
		if follower.Next() {
			ended <- string(follower.Record().Body)
		} else {
			ended <- fmt.Sprintf("the follow ended: %v", follower.Err())
		}
	}()
	select {
	case text := <-ended:
		t.Fatal(text)
	case <-time.After(24 * time.Second):
	}
	equal(t, follower.LastObservedTail().SeqNum, 1)
	must(stream.Append(ctx, batch("b")))(t)
	equal(t, <-ended, "b")
}

func TestManySessionsAtOnceStayApart(t *testing.T) {
	ctx := start(t)
	basin := newBasin(t, ctx, client(), &s2.BasinConfig{CreateStreamOnAppend: s2.Bool(true)})
	for i := range 20 {
		name := fmt.Sprint(i)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), testSecondsMax*time.Second)
			defer cancel()
			stream := basin.Stream(s2.StreamName(name))
			session := must(stream.AppendSession(ctx, nil))(t)
			var last *s2.BatchSubmitTicket
			for range 50 {
				last = submit(t, ctx, session, batch(name))
			}
			equal(t, ackOf(t, ctx, last).End.SeqNum, 50)
			succeeds(t, session.Close())
			for _, record := range readSession(t, ctx, stream, 50) {
				equal(t, string(record.Body), name)
			}
		})
	}
}
