// Uses the official Go client as its own documentation does, against whatever base URL is given.
// Says what it got as one JSON value a line; with the word `methods` behind the URL, how each method
// of the client went.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/replicate/replicate-go"
)

const (
	llama   = "meta/meta-llama-3-70b-instruct"
	schnell = "black-forest-labs/flux-schnell"
	dev     = "black-forest-labs/flux-dev"
	tick    = 5 * time.Millisecond
)

type line map[string]any

type input = replicate.PredictionInput

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(baseURL string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := replicate.NewClient(
		replicate.WithToken("r8_any"), replicate.WithBaseURL(baseURL))
	if err != nil {
		return err
	}
	if len(os.Args) > 2 && os.Args[2] == "methods" {
		callMethods(ctx, client)
		return nil
	}
	parts := []func(context.Context, *replicate.Client) error{
		runModels, stream, predictions, files, webhooks, models, refusals,
	}
	for _, part := range parts {
		if err := part(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

func say(event string, values line) {
	values["event"] = event
	written, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(written))
}

func runModels(ctx context.Context, client *replicate.Client) error {
	written, err := client.RunWithOptions(
		ctx, llama, input{"prompt": "Hello"}, nil, replicate.WithBlockUntilDone())
	if err != nil {
		return err
	}
	drawn, err := client.RunWithOptions(
		ctx, schnell, input{"prompt": "a boat", "num_outputs": 2}, nil,
		replicate.WithBlockUntilDone(), replicate.WithFileOutput())
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, token := range written.([]any) {
		text.WriteString(token.(string))
	}
	pictures := drawn.([]any)
	size := 0
	for _, each := range pictures {
		file := each.(*replicate.FileOutput)
		content, err := io.ReadAll(file)
		if err != nil {
			return err
		}
		size = len(content)
		if err := file.Close(); err != nil {
			return err
		}
	}
	say("run", line{"text": text.String(), "pictures": len(pictures), "bytes": size})
	return nil
}

func stream(ctx context.Context, client *replicate.Client) error {
	given := input{"prompt": "Tell me about the sea. [[tokens=30]]"}
	prediction, err := client.CreatePrediction(ctx, llama, given, nil, true)
	if err != nil {
		return err
	}
	events, failures := client.StreamPrediction(ctx, prediction)
	names, text := []string{}, ""
	for len(names) == 0 || names[len(names)-1] != replicate.SSETypeDone {
		select {
		case event := <-events:
			names = append(names, event.Type)
			text += event.String()
		case err, open := <-failures:
			if open {
				return fmt.Errorf("stream: %w", err)
			}
			failures = nil // closed beside the events, which may not have been read yet
		}
	}
	reader, err := client.StreamPredictionText(ctx, prediction)
	if err != nil {
		return err
	}
	again, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	say("stream", line{"names": names, "text": text, "again": string(again) == text})
	return reader.Close()
}

func predictions(ctx context.Context, client *replicate.Client) error {
	created, err := client.CreatePrediction(ctx, llama, input{"prompt": "x"}, nil, false)
	if err != nil {
		return err
	}
	statuses := []replicate.Status{created.Status}
	if err := client.Wait(ctx, created, replicate.WithPollingInterval(tick)); err != nil {
		return err
	}
	hanging, err := client.CreatePredictionWithModel(
		ctx, "black-forest-labs", "flux-schnell", input{"prompt": "x [[hang]]"}, nil, false)
	if err != nil {
		return err
	}
	canceled, err := client.CancelPrediction(ctx, hanging.ID)
	if err != nil {
		return err
	}
	got, err := client.GetPrediction(ctx, created.ID)
	if err != nil {
		return err
	}
	// No further than the first page: the client takes the link to the next one for a path.
	page, err := client.ListPredictions(ctx)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, each := range page.Results {
		listed[each.ID] = true
	}
	say("predictions", line{
		"statuses": append(statuses, created.Status, canceled.Status),
		"same":     fmt.Sprint(got.Output) == fmt.Sprint(created.Output),
		"listed":   listed[created.ID] && listed[hanging.ID],
	})
	return nil
}

func files(ctx context.Context, client *replicate.Client) error {
	file, err := client.CreateFileFromBytes(ctx, []byte("not a picture"), &replicate.CreateFileOptions{
		Filename: "boat.png", ContentType: "image/png", Metadata: map[string]string{"order": "7"},
	})
	if err != nil {
		return err
	}
	got, err := client.GetFile(ctx, file.ID)
	if err != nil {
		return err
	}
	listed := false
	page, err := client.ListFiles(ctx)
	if err != nil {
		return err
	}
	for _, each := range page.Results {
		listed = listed || each.ID == file.ID
	}
	output, err := client.RunWithOptions(
		ctx, dev, input{"prompt": "x", "image": file}, nil, replicate.WithBlockUntilDone())
	if err != nil {
		return err
	}
	if err := client.DeleteFile(ctx, file.ID); err != nil {
		return err
	}
	_, err = client.GetFile(ctx, file.ID)
	say("files", line{
		"name": got.Name, "type": got.ContentType, "size": got.Size, "metadata": got.Metadata,
		"listed": listed, "pictures": len(output.([]any)), "deleted": err != nil,
	})
	return nil
}

func webhooks(ctx context.Context, client *replicate.Client) error {
	secret, err := client.GetDefaultWebhookSecret(ctx)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	statuses, valid := []string{}, []bool{}
	ended := make(chan error, 1)
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		status, good, err := receive(r, *secret)
		statuses, valid = append(statuses, status), append(valid, good...)
		if err != nil || status == string(replicate.Succeeded) {
			ended <- err
		}
	})}
	defer server.Close()
	go server.Serve(listener)
	hook := replicate.Webhook{
		URL:    fmt.Sprintf("http://%s/hook", listener.Addr()),
		Events: []replicate.WebhookEventType{replicate.WebhookEventStart, replicate.WebhookEventCompleted},
	}
	if _, err := client.CreatePrediction(ctx, llama, input{"prompt": "x"}, &hook, false); err != nil {
		return err
	}
	select {
	case err := <-ended:
		say("webhooks", line{"statuses": statuses, "valid": valid})
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive checks a webhook as it came, and once more with a body that was touched.
func receive(r *http.Request, secret replicate.WebhookSigningSecret) (string, []bool, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", nil, err
	}
	valid := []bool{}
	for _, content := range [][]byte{body, append(bytes.Clone(body), ' ')} {
		r.Body = io.NopCloser(bytes.NewReader(content))
		good, err := replicate.ValidateWebhookRequest(r, secret)
		if err != nil {
			return "", nil, err
		}
		valid = append(valid, good)
	}
	var prediction replicate.Prediction
	err = json.Unmarshal(body, &prediction)
	return string(prediction.Status), valid, err
}

func models(ctx context.Context, client *replicate.Client) error {
	model, err := client.GetModel(ctx, "black-forest-labs", "flux-schnell")
	if err != nil {
		return err
	}
	found, err := client.SearchModels(ctx, "flux schnell")
	if err != nil {
		return err
	}
	versions, err := client.ListModelVersions(ctx, "black-forest-labs", "flux-schnell")
	if err != nil {
		return err
	}
	shelf, err := client.GetCollection(ctx, "text-to-image")
	if err != nil {
		return err
	}
	hardware, err := client.ListHardware(ctx)
	if err != nil {
		return err
	}
	account, err := client.GetCurrentAccount(ctx)
	if err != nil {
		return err
	}
	made, err := client.CreatePredictionWithDeployment(
		ctx, "sandbox", "image", input{"prompt": "x"}, nil, false)
	if err != nil {
		return err
	}
	deployment, err := client.GetDeployment(ctx, "sandbox", "image")
	if err != nil {
		return err
	}
	skus := []string{}
	for _, each := range *hardware {
		skus = append(skus, each.SKU)
	}
	say("models", line{
		"name": model.Name, "found": found.Results[0].Name,
		"version": versions.Results[0].ID == model.LatestVersion.ID,
		"shelf":   len(*shelf.Models) > 0, "hardware": skus, "account": account.Username,
		"deployment": deployment.CurrentRelease.Model == made.Model,
	})
	return nil
}

func refusals(ctx context.Context, client *replicate.Client) error {
	_, err := client.CreatePrediction(ctx, schnell, input{}, nil, false)
	var refusal *replicate.APIError
	if !errors.As(err, &refusal) {
		return fmt.Errorf("no refusal: %w", err)
	}
	say("refused", line{"status": refusal.Status, "message": refusal.Error()})
	failing := input{"prompt": "x [[fail=E1001: out of memory]]"}
	_, err = client.RunWithOptions(ctx, llama, failing, nil, replicate.WithBlockUntilDone())
	var failure *replicate.ModelError
	if !errors.As(err, &failure) {
		return fmt.Errorf("no failure: %w", err)
	}
	say("failed", line{"message": failure.Error()})
	return nil
}
