package aws

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
)

// meanings are those of the codes that AWS answers with. A code that is not here is
// judged by the status beside it.
var meanings = map[string]error{
	"ResourceNotFoundException":           provider.ErrNotFound,
	"ParameterNotFound":                   provider.ErrNotFound,
	"ParameterVersionNotFound":            provider.ErrNoVersion,
	"AccessDenied":                        provider.ErrDenied,
	"AccessDeniedException":               provider.ErrDenied,
	"UnauthorizedOperation":               provider.ErrDenied,
	"NotAuthorized":                       provider.ErrDenied,
	"DecryptionFailure":                   provider.ErrDenied, // the key of KMS, not the secret
	"InvalidKeyId":                        provider.ErrDenied,
	"ExpiredToken":                        provider.ErrCredential,
	"ExpiredTokenException":               provider.ErrCredential,
	"RequestExpired":                      provider.ErrCredential,
	"IncompleteSignature":                 provider.ErrCredential,
	"InvalidAccessKeyId":                  provider.ErrCredential,
	"InvalidClientTokenId":                provider.ErrCredential,
	"InvalidSignatureException":           provider.ErrCredential,
	"SignatureDoesNotMatch":               provider.ErrCredential,
	"MissingAuthenticationToken":          provider.ErrCredential,
	"MissingAuthenticationTokenException": provider.ErrCredential,
	"UnrecognizedClientException":         provider.ErrCredential,
}

// failed says what an error of the SDK means, without the text of the server.
func failed(ctx context.Context, err error) error {
	var cred *credentialError
	var deserialization *smithy.DeserializationError
	var sent *smithyhttp.RequestSendError
	var api smithy.APIError
	var resp *smithyhttp.ResponseError
	answered := errors.As(err, &resp) && resp.Response != nil && resp.HTTPStatusCode() != 0 // 0: the request got no answer
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the store is not reached: %w", ctx.Err())
	case errors.As(err, &cred):
		return cred.err
	case errors.Is(err, provider.ErrTooLarge):
		return fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, rest.MaxBody)
	case answered && resp.HTTPStatusCode() >= 200 && resp.HTTPStatusCode() < 300, errors.As(err, &deserialization) && !answered:
		return fmt.Errorf("%w: it is not an answer of AWS, or it was cut off", provider.ErrMalformed)
	case errors.As(err, &api) && meanings[api.ErrorCode()] != nil:
		return fmt.Errorf("%w (%s)", meanings[api.ErrorCode()], api.ErrorCode())
	case errors.As(err, &api) && throttles(api.ErrorCode()):
		after := rest.RetryAfter(header(resp))
		return &provider.Throttled{After: after}
	case answered:
		return rest.Refusal(resp.Response.Response)
	case errors.As(err, &sent):
		return rest.Failed(sent.Err)
	}
	return fmt.Errorf("the request cannot be made (%w)", provider.ErrPermanent)
}

func throttles(code string) bool { _, ok := retry.DefaultThrottleErrorCodes[code]; return ok }

func header(resp *smithyhttp.ResponseError) map[string][]string {
	if resp == nil || resp.Response == nil {
		return nil
	}
	return resp.Response.Header
}

// uncredited says why there is no credential. What passes by itself stays what it is;
// everything else is for a person: no credential in the chain, a role that may not be
// assumed.
func uncredited(ctx context.Context, err error) error {
	var known *credentialError
	if errors.As(err, &known) {
		return known.err
	}
	var resp *smithyhttp.ResponseError
	var sent *smithyhttp.RequestSendError
	switch e := failed(ctx, err); {
	case provider.Retryable(e), errors.Is(e, rest.ErrElsewhere), errors.Is(e, provider.ErrCredential):
		return fmt.Errorf("get a credential: %w", e)
	case errors.As(err, &resp) || errors.As(err, &sent):
		return fmt.Errorf("get a credential: %w: %s", provider.ErrCredential, e.Error())
	}
	return fmt.Errorf("%w: the environment, ~/.aws and the instance give none", provider.ErrCredential)
}
