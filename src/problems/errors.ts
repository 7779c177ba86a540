import createError from '@fastify/error';

// Every error that Cloakroom itself answers with. Each is documented in docs/errors.md; a test compares the two lists.
// An upstream's own errors pass through and never carry these codes.

/** All of them: what is defined is listed, so that none can be missing in docs and metrics. */
export const problemTypes: ProblemType[] = [];

export type ProblemType = ReturnType<typeof createError>;

function define(code: string, message: string, status: number): ProblemType {
  const type = createError(code, message, status);
  problemTypes.push(type);
  return type;
}

export const SessionRequired = define(
  'BFF_SESSION_REQUIRED',
  'Nobody is logged in, or the session has ended: log in and try again.',
  401,
);
export const CsrfRejected = define(
  'BFF_CSRF_REJECTED',
  'The request does not come from this site’s own pages: send it same-origin, with the header "x-csrf: 1".',
  403,
);
export const PolicyDenied = define('BFF_POLICY_DENIED', 'The logged-in user may not do this.', 403);
export const StepUpRequired = define(
  'BFF_STEP_UP_REQUIRED',
  'A stronger or more recent login is needed for this: go to loginUrl, then try again. The session is kept.',
  401,
);
export const StepUpFailed = define(
  'BFF_STEP_UP_FAILED',
  'A stronger or more recent login is needed for this, and logging in again does not bring it: ask the operator of this site. The session is kept.',
  403,
);
export const BearerRequired = define(
  'BFF_BEARER_REQUIRED',
  'This needs an access token: send it as "Authorization: Bearer …".',
  401,
);
export const BearerInvalid = define(
  'BFF_BEARER_INVALID',
  'The access token is not valid here, or not any more: get another one, made for this API.',
  401,
);
export const BearerBound = define(
  'BFF_BEARER_BOUND',
  'The access token is bound to a key (DPoP or mutual TLS), which can’t be verified here: get one without.',
  401,
);
export const BearerMalformed = define(
  'BFF_BEARER_MALFORMED',
  'An access token must come in one header line "Authorization: Bearer …", and nowhere else.',
  400,
);
export const CredentialsAmbiguous = define(
  'BFF_CREDENTIALS_AMBIGUOUS',
  'The request has a session cookie and an Authorization header: send only one of them.',
  400,
);
export const BearerTooWeak = define(
  'BFF_BEARER_TOO_WEAK',
  'A stronger or more recent login is needed for this: get a token that has what the challenge asks for.',
  401,
);
export const BearerUnavailable = define(
  'BFF_BEARER_UNAVAILABLE',
  'The access token can’t be verified right now: try again shortly.',
  503,
);
export const PathNotCanonical = define(
  'BFF_PATH_NOT_CANONICAL',
  'The request target is ambiguous: send it without dot segments, doubled slashes, backslashes, fragments and encoded control or separator characters.',
  400,
);
export const HostInvalid = define('BFF_HOST_INVALID', 'The request must have exactly one valid Host.', 400);
export const HostUnknown = define('BFF_HOST_UNKNOWN', 'No frontend is configured for this host.', 421);
export const UriTooLong = define(
  'BFF_URI_TOO_LONG',
  'The address is too long: go back and start from the site’s own pages.',
  414,
);
export const HeadersTooMany = define(
  'BFF_HEADERS_TOO_LARGE',
  'The request has too many or too large headers: delete this site’s cookies in the browser’s settings and try again.',
  431,
);
export const RequestMalformed = define('BFF_REQUEST_MALFORMED', 'The request could not be understood.', 400);
export const RequestTimeout = define('BFF_REQUEST_TIMEOUT', 'The request did not arrive in time.', 408);
export const WebSocketRefused = define('BFF_WEBSOCKET_REFUSED', 'No WebSocket is offered here.', 400);
export const WebSocketOriginRefused = define(
  'BFF_WEBSOCKET_ORIGIN_REFUSED',
  'Pages of this origin may not open a WebSocket here: the operator lists those that may under websocket.origins.',
  403,
);
export const WebSocketLimit = define(
  'BFF_WEBSOCKET_LIMIT',
  'This session has as many WebSockets open as it may: close one first.',
  429,
);
export const WebSocketsFull = define(
  'BFF_WEBSOCKETS_FULL',
  'No more WebSockets can be opened here right now: try again shortly.',
  503,
);
export const WebSocketNotAccepted = define('BFF_WEBSOCKET_NOT_ACCEPTED', 'The API did not accept the WebSocket.', 502);
export const RouteUnknown = define('BFF_ROUTE_UNKNOWN', 'Nothing is served here.', 404);
export const MethodNotAllowed = define('BFF_METHOD_NOT_ALLOWED', 'This method is not allowed here.', 405);
export const PreconditionFailed = define(
  'BFF_PRECONDITION_FAILED',
  'The file is not the one that was asked for any more.',
  412,
);
export const RangeUnsatisfiable = define('BFF_RANGE_UNSATISFIABLE', 'The file has no such range.', 416);
export const BodyTooLarge = define('BFF_BODY_TOO_LARGE', 'The request body is larger than this API allows.', 413);
export const MediaTypeUnsupported = define(
  'BFF_MEDIA_TYPE_UNSUPPORTED',
  'The request body has a type that is not accepted here.',
  415,
);
export const TransferCodingUnknown = define(
  'BFF_TRANSFER_CODING_UNKNOWN',
  'The body has a transfer coding that is not known here: send it with "Transfer-Encoding: chunked" or a Content-Length.',
  501,
);
export const ExpectationFailed = define(
  'BFF_EXPECTATION_FAILED',
  'The request expects something that is not done here: send it without the header "Expect".',
  417,
);
export const RateLimited = define('BFF_RATE_LIMITED', 'Too many attempts: wait a minute and try again.', 429);
export const Overloaded = define('BFF_OVERLOADED', 'Too much arrives here at the same time: try again shortly.', 503);
export const StoreUnavailable = define(
  'BFF_STORE_UNAVAILABLE',
  'Sessions can’t be looked up right now. Nobody was logged out: try again shortly.',
  503,
);
export const TokenUnavailable = define(
  'BFF_TOKEN_UNAVAILABLE',
  'The access token can’t be renewed right now. The session is kept: try again shortly.',
  503,
);
export const TokenRefused = define(
  'BFF_TOKEN_REFUSED',
  'The login service gives no token for this API: ask the operator of this site. The session is kept.',
  403,
);
export const AuthorizationServerUnavailable = define(
  'BFF_AUTHORIZATION_SERVER_UNAVAILABLE',
  'The login service is not available right now: try again shortly.',
  503,
);
export const LoginNotNavigation = define(
  'BFF_LOGIN_NOT_NAVIGATION',
  'The login is a page, not a fetch: set location.href to it.',
  400,
);
export const LoginCrossSite = define(
  'BFF_LOGIN_CROSS_SITE',
  'Another site tried to start a login here: start it from this site.',
  403,
);
export const LoginStepUpInvalid = define(
  'BFF_LOGIN_STEP_UP_INVALID',
  'This link to a stronger login has expired or was not made here: go back to the page that you came from and try again there.',
  400,
);
export const LoginTransactionMissing = define(
  'BFF_LOGIN_TRANSACTION_MISSING',
  'This login was not started in this browser, took too long, or is finished already: start again.',
  400,
);
export const LoginResponseInvalid = define(
  'BFF_LOGIN_RESPONSE_INVALID',
  'The answer of the login service does not belong to this login: start again.',
  400,
);
export const LoginRefused = define('BFF_LOGIN_REFUSED', 'The login service did not log you in: start again.', 403);
export const LoginNotStrongEnough = define(
  'BFF_LOGIN_NOT_STRONG_ENOUGH',
  'The login service did not authenticate you in the way that is needed: start again.',
  403,
);
export const LoginOtherUser = define(
  'BFF_LOGIN_OTHER_USER',
  'The login service knows another user in this browser than the one who is logged in here: nobody was replaced.',
  403,
);
export const LoginSilentRepeated = define(
  'BFF_LOGIN_SILENT_REPEATED',
  'This page tried several times within a minute to log you in by itself, and nobody is logged in at the login service: start again to log in.',
  429,
);
export const LoginTooManySessions = define(
  'BFF_LOGIN_TOO_MANY_SESSIONS',
  'You are logged in in too many places: log out in one of them first.',
  403,
);
export const LoginAnswerInvalid = define(
  'BFF_LOGIN_ANSWER_INVALID',
  'The login service gave an answer that can’t be trusted: nobody was logged in.',
  502,
);
export const LogoutSidInvalid = define(
  'BFF_LOGOUT_SID_INVALID',
  'A logout by link needs the session’s own sid: use the logoutUrl of GET /bff/session, or POST.',
  403,
);
export const UpstreamUnreachable = define('BFF_UPSTREAM_UNREACHABLE', 'The API can’t be reached right now.', 502);
export const UpstreamInvalid = define('BFF_UPSTREAM_INVALID', 'The API gave an answer that is not valid HTTP.', 502);
export const UpstreamTimeout = define('BFF_UPSTREAM_TIMEOUT', 'The API did not answer in time.', 504);
export const UpstreamUnavailable = define(
  'BFF_UPSTREAM_UNAVAILABLE',
  'The API does not answer at the moment and was not asked: try again shortly.',
  503,
);
export const UpstreamBusy = define(
  'BFF_UPSTREAM_BUSY',
  'Too many requests wait for this API already: try again shortly.',
  503,
);
export const LoopDetected = define(
  'BFF_LOOP_DETECTED',
  'The request came back to where it was: an upstream points at Cloakroom itself.',
  508,
);
export const ForwardAuthInvalid = define(
  'BFF_FORWARD_AUTH_INVALID',
  'The proxy does not say in exactly one way what the browser asked for: X-Original-Method and X-Original-URI, X-Forwarded-Method and X-Forwarded-Uri, or the path below /bff/forward-auth.',
  400,
);
export const ForwardAuthDenied = define(
  'BFF_FORWARD_AUTH_DENIED',
  'No API is configured for this path and method.',
  403,
);
export const Internal = define('BFF_INTERNAL', 'Something went wrong here: tell the operator the request id.', 500);

export interface ProblemDetails {
  /** What it was about this request, for developers (RFC 9457 §3.1.4). Nothing of it may be foreign text or a secret. */
  detail?: string;
  /** For operators. */
  cause?: unknown;
  /** Seconds for `Retry-After`. */
  retryAfterSeconds?: number;
  /** Names of cookies that go with the answer. */
  expires?: string[];
  /** Where the browser may clear this site’s cookies, if they are what is wrong. */
  clearCookiesPath?: string;
  /** Logging in helps with this, although it is no 401: whoever reads it decides, no client goes there by itself (W24). */
  loginHelps?: boolean;
  /** Where logging in helps with this, if it is not the usual login. */
  loginUrl?: string;
  /** What the upstream answered, where that is not passed on (RFC 9209 §2.1.4). */
  receivedStatus?: number;
  /** More parameters of the challenge (RFC 9110 §11.6.1), ready to be sent. */
  challenge?: string;
  /** Trying again does not help: something about the login is set up wrongly, here or at the authorization server. */
  isPermanent?: boolean;
  /** Whose challenge it is when the caller brought a token (RFC 6750 §3); else that of sessions. */
  scheme?: 'Bearer';
}

const permanentMessage =
  'Logging in does not work here, and trying again does not help: tell the operator of this site the request id.';

export type Problem = InstanceType<ProblemType> & Omit<ProblemDetails, 'cause'>;

export function problem(type: ProblemType, { retryAfterSeconds, ...details }: ProblemDetails = {}): Problem {
  const error: Problem = Object.assign(new type(), details);
  if (details.isPermanent === true) error.message = permanentMessage;
  if (retryAfterSeconds !== undefined) error.retryAfterSeconds = Math.max(1, Math.ceil(retryAfterSeconds));
  return error;
}

export function isProblem(error: unknown): error is Problem {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('BFF_');
}
