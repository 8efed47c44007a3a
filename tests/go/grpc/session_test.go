// Append sessions with many batches in flight, read sessions to the tail and beyond it.

package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
	"google.golang.org/grpc/codes"
)

// The first `count` records, by a session.
func readSession(t *testing.T, ctx context.Context, stream *s2.StreamClient, count uint64) []s2.SequencedRecord {
	t.Helper()
	request := &s2.ReadSessionRequest{Start: s2.ReadStartSeqNum(0), Limit: s2.ReadLimit{Count: &count}}
	session := must(stream.ReadSession(ctx, request))(t)
	var all []s2.SequencedRecord
	for {
		output, err := session.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		all = append(all, records(t, must(output, err)(t))...)
	}
}

// Sends from a goroutine of its own, so that acks are taken while batches go out.
func send(sender s2.Sender[*s2.AppendInput], inputs []*s2.AppendInput) <-chan error {
	sent := make(chan error, 1)
	go func() {
		for _, input := range inputs {
			if err := sender.Send(input); err != nil {
				sent <- err
				return
			}
		}
		sent <- sender.Close()
	}()
	return sent
}

func TestAPipelinedSessionAcksInOrder(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	sender, receiver, err := stream.AppendSession(ctx)
	succeeds(t, err)
	var inputs []*s2.AppendInput
	for i := range uint64(500) {
		// Each condition holds only if the batches arrive in order.
		inputs = append(inputs, &s2.AppendInput{Records: batch(fmt.Sprint(i), "").Records, MatchSeqNum: some(2 * i)})
	}
	sent := send(sender, inputs)
	for i := range uint64(500) {
		output := must(receiver.Recv())(t)
		equal(t, [2]uint64{output.StartSeqNum, output.EndSeqNum}, [2]uint64{2 * i, 2*i + 2})
	}
	succeeds(t, <-sent)
	_, err = receiver.Recv()
	equal(t, err, io.EOF)
	got := readSession(t, ctx, stream, 1000)
	equal(t, len(got), 1000)
	for i, record := range got {
		equal(t, record.SeqNum, uint64(i))
		if i%2 == 0 {
			equal(t, string(record.Body), fmt.Sprint(i/2))
		}
	}
}

func TestAFailedConditionEndsTheSessionAfterTheAcksBeforeIt(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	sender, receiver, err := stream.AppendSession(ctx)
	succeeds(t, err)
	bad := &s2.AppendInput{Records: batch("b").Records, MatchSeqNum: some(uint64(7))}
	// The last may find the session ended.
	sent := send(sender, []*s2.AppendInput{batch("a"), bad, batch("c")})
	equal(t, must(receiver.Recv())(t).EndSeqNum, 1)
	_, err = receiver.Recv()
	refused(t, err, codes.FailedPrecondition, "sequence number")
	<-sent
	equal(t, bodies(read(t, ctx, stream, from(0))), "a")
}

func TestASessionOnAMissingStreamIsRefused(t *testing.T) {
	ctx := start(t)
	_, basin := newBasin(t, ctx, client(t), nil)
	missing := basin.StreamClient("missing")
	sender, receiver, err := missing.AppendSession(ctx)
	succeeds(t, err)
	<-send(sender, []*s2.AppendInput{batch("a")})
	_, err = receiver.Recv()
	refused(t, err, codes.NotFound, "missing")
	session := must(missing.ReadSession(ctx, &s2.ReadSessionRequest{Start: s2.ReadStartSeqNum(0)}))(t)
	_, err = session.Recv()
	refused(t, err, codes.NotFound, "missing")
}

func TestABatchingSenderKeepsTheOrder(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	sender, receiver, err := stream.AppendSession(ctx)
	succeeds(t, err)
	batching := must(s2.NewAppendRecordBatchingSender(sender, s2.WithMatchSeqNum(0)))(t)
	sent := make(chan error, 1)
	go func() {
		for i := range 2500 {
			if err := batching.Send(s2.AppendRecord{Body: []byte(fmt.Sprint(i))}); err != nil {
				sent <- err
				return
			}
		}
		sent <- batching.Close()
	}()
	end := uint64(0)
	for {
		output, err := receiver.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		equal(t, must(output, err)(t).StartSeqNum, end)
		end = output.EndSeqNum
	}
	succeeds(t, <-sent)
	equal(t, end, 2500)
}

func TestALimitedSessionEndsAtTheTail(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a", "b")))(t)
	equal(t, bodies(readSession(t, ctx, stream, 99)), "a b")
	equal(t, bodies(readSession(t, ctx, stream, 1)), "a")
}

func TestASessionFromBeyondTheTailIsToldTheTail(t *testing.T) {
	ctx := start(t)
	stream := newStream(t, ctx)
	must(stream.Append(ctx, batch("a")))(t)
	session := must(stream.ReadSession(ctx, &s2.ReadSessionRequest{Start: s2.ReadStartSeqNum(9)}))(t)
	equal(t, must(session.Recv())(t).(s2.ReadOutputNextSeqNum), 1)
}

// Without heartbeats a message with nothing in it is an error to the client; with them it is passed over.
func TestAFollowerCatchesUpAndThenSeesWhatOthersAppend(t *testing.T) {
	for name, heartbeats := range map[string]bool{"silent": false, "heartbeats": true} {
		t.Run(name, func(t *testing.T) {
			ctx := start(t)
			stream := newStream(t, ctx)
			must(stream.Append(ctx, batch("0", "1", "2")))(t)
			follower := must(stream.ReadSession(ctx, &s2.ReadSessionRequest{Start: s2.ReadStartSeqNum(0), Heartbeats: heartbeats}))(t)
			equal(t, bodies(records(t, must(follower.Recv())(t))), "0 1 2")
			for i := 3; i < 103; i++ {
				must(stream.Append(ctx, batch(fmt.Sprint(i))))(t)
				equal(t, bodies(records(t, must(follower.Recv())(t))), fmt.Sprint(i))
			}
			idle := make(chan string, 1)
			go func() {
				output, err := follower.Recv()
				if err != nil {
					idle <- err.Error()
					return
				}
				idle <- bodies(output.(s2.ReadOutputBatch).Records)
			}()
			// The longest time between two heartbeats, and a little more.
			select {
			case text := <-idle:
				t.Fatalf("got %q while nobody appended", text)
			case <-time.After(16 * time.Second):
			}
			must(stream.Append(ctx, batch("103")))(t)
			equal(t, <-idle, "103")
		})
	}
}

func TestManySessionsAtOnceStayApart(t *testing.T) {
	ctx := start(t)
	_, basin := newBasin(t, ctx, client(t), &s2.BasinConfig{CreateStreamOnAppend: true})
	ended := make(chan error)
	const sessions = 20
	for i := range sessions {
		go func() { ended <- appendAndFollow(ctx, basin.StreamClient(fmt.Sprint(i)), fmt.Sprint(i)) }()
	}
	for range sessions {
		succeeds(t, <-ended)
	}
}

// Appends 50 batches by a session and sees them in another.
func appendAndFollow(ctx context.Context, stream *s2.StreamClient, body string) error {
	sender, receiver, err := stream.AppendSession(ctx)
	if err != nil {
		return err
	}
	inputs := make([]*s2.AppendInput, 50)
	for i := range inputs {
		inputs[i] = batch(body)
	}
	sent := send(sender, inputs)
	for range inputs {
		if _, err := receiver.Recv(); err != nil {
			return err
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	session, err := stream.ReadSession(ctx, &s2.ReadSessionRequest{Start: s2.ReadStartSeqNum(0)})
	if err != nil {
		return err
	}
	for next := 0; next < len(inputs); {
		output, err := session.Recv()
		if err != nil {
			return err
		}
		for _, record := range output.(s2.ReadOutputBatch).Records {
			if string(record.Body) != body {
				return fmt.Errorf("a record of stream %s says %s", body, record.Body)
			}
			next++
		}
	}
	return nil
}
