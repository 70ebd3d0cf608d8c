package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"sort"

	"github.com/replicate/replicate-go"
)

const older = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"

// callMethods calls every method of the client, and says for each how it went.
func callMethods(ctx context.Context, client *replicate.Client) {
	cases := methodCases(ctx, client)
	known := map[string]bool{}
	kind := reflect.TypeOf(client)
	for at := range kind.NumMethod() {
		known[kind.Method(at).Name] = true
	}
	names := []string{}
	for name := range known {
		names = append(names, name)
	}
	for name := range cases {
		if !known[name] {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		call := cases[name]
		var failure any
		if call == nil || !known[name] {
			failure = "is not a method, or is not called"
		} else if err := call(); err != nil {
			failure = err.Error()
		}
		say("method", line{"method": name, "error": failure})
	}
}

// refused holds that the sandbox says that it has not got this.
func refused[T any](_ T, err error) error {
	var refusal *replicate.APIError
	if errors.As(err, &refusal) && refusal.Status == http.StatusMethodNotAllowed {
		return nil
	}
	return fmt.Errorf("not refused: %w", err)
}

func got[T any](good func(T) bool) func(T, error) error {
	return func(value T, err error) error {
		if err == nil && !good(value) {
			return errors.New("another answer")
		}
		return err
	}
}

func methodCases(ctx context.Context, client *replicate.Client) map[string]func() error {
	boat := input{"prompt": "a boat"}
	create := func() *replicate.Prediction {
		prediction, err := client.CreatePrediction(ctx, llama, boat, nil, true)
		if err != nil {
			panic(err)
		}
		return prediction
	}
	upload := func() *replicate.File {
		file, err := client.CreateFileFromBytes(ctx, []byte("hello"), nil)
		if err != nil {
			panic(err)
		}
		return file
	}
	isFile := got(func(file *replicate.File) bool { return file.Size == 5 })
	isBoat := got(func(made *replicate.Prediction) bool { return made.Input["prompt"] == "a boat" })
	isText := got(func(output replicate.PredictionOutput) bool { return len(output.([]any)) > 10 })
	return map[string]func() error{
		"GetCurrentAccount": func() error {
			return got(func(account *replicate.Account) bool { return account.Username == "sandbox" })(
				client.GetCurrentAccount(ctx))
		},
		"ListCollections": func() error {
			return got(func(page *replicate.Page[replicate.Collection]) bool { return len(page.Results) > 3 })(
				client.ListCollections(ctx))
		},
		"GetCollection": func() error {
			return got(func(found *replicate.Collection) bool { return len(*found.Models) > 0 })(
				client.GetCollection(ctx, "text-to-image"))
		},
		"CreateFileFromPath": func() error {
			path := os.TempDir() + "/mediagate-methods.txt"
			if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
				return err
			}
			defer os.Remove(path)
			return isFile(client.CreateFileFromPath(ctx, path, nil))
		},
		"CreateFileFromBytes": func() error { return isFile(upload(), nil) },
		"CreateFileFromBuffer": func() error {
			return isFile(client.CreateFileFromBuffer(ctx, bytes.NewBufferString("hello"), nil))
		},
		"ListFiles": func() error {
			file := upload()
			return got(func(page *replicate.Page[replicate.File]) bool { return page.Results[0].ID == file.ID })(
				client.ListFiles(ctx))
		},
		"GetFile":    func() error { return isFile(client.GetFile(ctx, upload().ID)) },
		"DeleteFile": func() error { return client.DeleteFile(ctx, upload().ID) },
		"ListHardware": func() error {
			return got(func(all *[]replicate.Hardware) bool { return (*all)[0].SKU == "cpu" })(
				client.ListHardware(ctx))
		},
		"ListModels": func() error {
			return got(func(page *replicate.Page[replicate.Model]) bool { return len(page.Results) > 10 })(
				client.ListModels(ctx))
		},
		"SearchModels": func() error {
			return got(func(page *replicate.Page[replicate.Model]) bool { return page.Results[0].Name == "flux-schnell" })(
				client.SearchModels(ctx, "flux schnell"))
		},
		"GetModel": func() error {
			return got(func(model *replicate.Model) bool { return model.DefaultExample.Output != nil })(
				client.GetModel(ctx, "stability-ai", "sdxl"))
		},
		"CreateModel": func() error {
			return refused(client.CreateModel(ctx, "a", "b", replicate.CreateModelOptions{}))
		},
		"DeleteModel": func() error { return refused(0, client.DeleteModel(ctx, "a", "b")) },
		"ListModelVersions": func() error {
			return got(func(page *replicate.Page[replicate.ModelVersion]) bool { return page.Results[1].ID == older })(
				client.ListModelVersions(ctx, "stability-ai", "sdxl"))
		},
		"GetModelVersion": func() error {
			return got(func(version *replicate.ModelVersion) bool { return version.OpenAPISchema != nil })(
				client.GetModelVersion(ctx, "stability-ai", "sdxl", older))
		},
		"DeleteModelVersion": func() error { return refused(0, client.DeleteModelVersion(ctx, "a", "b", "x")) },
		"CreatePredictionWithModel": func() error {
			return isBoat(client.CreatePredictionWithModel(ctx, "black-forest-labs", "flux-schnell", boat, nil, false))
		},
		"CreatePrediction": func() error { return isBoat(client.CreatePrediction(ctx, older, boat, nil, false)) },
		"CreatePredictionWithDeployment": func() error {
			return isBoat(client.CreatePredictionWithDeployment(ctx, "sandbox", "text", boat, nil, false))
		},
		"ListPredictions": func() error {
			made := create()
			return got(func(page *replicate.Page[replicate.Prediction]) bool { return page.Results[0].ID == made.ID })(
				client.ListPredictions(ctx))
		},
		"GetPrediction": func() error { return isBoat(client.GetPrediction(ctx, create().ID)) },
		"CancelPrediction": func() error {
			hanging, err := client.CreatePrediction(ctx, llama, input{"prompt": "x [[hang]]"}, nil, false)
			if err != nil {
				return err
			}
			return got(func(made *replicate.Prediction) bool { return made.Status == replicate.Canceled })(
				client.CancelPrediction(ctx, hanging.ID))
		},
		"Run": func() error { return isText(client.Run(ctx, llama, boat, nil)) },
		"RunWithOptions": func() error {
			return isText(client.RunWithOptions(ctx, llama, boat, nil, replicate.WithBlockUntilDone()))
		},
		"Stream":           func() error { return drain(client.Stream(ctx, llama, boat, nil)) },
		"StreamPrediction": func() error { return drain(client.StreamPrediction(ctx, create())) },
		"StreamPredictionText": func() error {
			reader, err := client.StreamPredictionText(ctx, create())
			if err != nil {
				return err
			}
			defer reader.Close()
			text, err := io.ReadAll(reader)
			return got(func(text []byte) bool { return bytes.HasPrefix(text, []byte("[sandbox ")) })(text, err)
		},
		"StreamPredictionFiles": func() error { return streamFiles(ctx, client) },
		"CreateTraining": func() error {
			return refused(client.CreateTraining(ctx, "a", "b", "x", "c/d", replicate.TrainingInput{}, nil))
		},
		"ListTrainings":  func() error { return refused(client.ListTrainings(ctx)) },
		"GetTraining":    func() error { return refused(client.GetTraining(ctx, "x")) },
		"CancelTraining": func() error { return refused(client.CancelTraining(ctx, "x")) },
		"Wait": func() error {
			made := create()
			err := client.Wait(ctx, made, replicate.WithPollingInterval(tick))
			return got(func(status replicate.Status) bool { return status == replicate.Succeeded })(made.Status, err)
		},
		"WaitAsync": func() error {
			updates, failures := client.WaitAsync(ctx, create(), replicate.WithPollingInterval(tick))
			for {
				select {
				case made := <-updates:
					if made != nil && made.Status == replicate.Succeeded {
						return nil
					}
				case err := <-failures:
					if err != nil {
						return err
					}
				}
			}
		},
		"GetDefaultWebhookSecret": func() error {
			return got(func(secret *replicate.WebhookSigningSecret) bool { return secret.Key != "" })(
				client.GetDefaultWebhookSecret(ctx))
		},
		"GetDeployment": func() error {
			return got(func(found *replicate.Deployment) bool { return found.Name == "image" })(
				client.GetDeployment(ctx, "sandbox", "image"))
		},
		"ListDeployments": func() error {
			return got(func(page *replicate.Page[replicate.Deployment]) bool { return len(page.Results) == 4 })(
				client.ListDeployments(ctx))
		},
		"CreateDeployment": func() error {
			return refused(client.CreateDeployment(ctx, replicate.CreateDeploymentOptions{}))
		},
		"UpdateDeployment": func() error {
			return refused(client.UpdateDeployment(ctx, "sandbox", "image", replicate.UpdateDeploymentOptions{}))
		},
		"DeleteDeployment": func() error { return refused(0, client.DeleteDeployment(ctx, "sandbox", "image")) },
	}
}

// drain reads a stream to its end.
func drain(events <-chan replicate.SSEEvent, failures <-chan error) error {
	for {
		select {
		case event, open := <-events:
			if !open {
				return errors.New("no done")
			}
			if event.Type == replicate.SSETypeDone {
				return nil
			}
		case err, open := <-failures:
			if open {
				return err
			}
			failures = nil // closed beside the events, which may not have been read yet
		}
	}
}

// streamFiles reads the first file that a stream of files has.
func streamFiles(ctx context.Context, client *replicate.Client) error {
	made, err := client.CreatePrediction(ctx, schnell, input{"prompt": "a boat"}, nil, true)
	if err != nil {
		return err
	}
	files, err := client.StreamPredictionFiles(made)
	if err != nil {
		return err
	}
	defer files.Close()
	file, err := files.NextFile(ctx)
	if err != nil {
		return err
	}
	body, err := file.Body(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	return got(func(content []byte) bool { return len(content) > 100 })(content, err)
}
