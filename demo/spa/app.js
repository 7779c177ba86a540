import { CALL_GROUPS, send } from './calls.js';
import { showCatalog, showLost } from './catalog.js';

const page = (id) => document.getElementById(id);

/** Cloakroom's last answer about the session. */
let session;
/** When it came: seconds left are counted from here, so that the server's clock and ours need not agree. */
let sessionReadAtMs = 0;
/** One question when the clock runs out; the answer starts the clock anew or says that nobody is logged in. */
let askedAtEnd = false;
const isLoggedIn = () => session?.authenticated === true;

buildCalls();
page('refresh').addEventListener('click', refresh);
page('logout').addEventListener('click', logOut);
page('as-guest').addEventListener('click', goOnAsGuest);
window.addEventListener('hashchange', renderLoginLinks);
setInterval(renderClocks, 1000);
// Coming back with the browser's Back button shows a frozen page: who is logged in may have changed meanwhile.
window.addEventListener('pageshow', (event) => event.persisted && loadSession());

await loadSession();
await Promise.all([showCatalog(), showOwnClaims()]);

async function loadSession() {
  const answer = await send({ path: '/bff/session' });
  if (answer.ok && answer.json) acceptSession(answer.json);
  else showResult('GET /bff/session', answer);
}

function acceptSession(answer) {
  if (isLoggedIn() && !answer.authenticated) {
    showLost();
    page('claims').textContent = 'Nothing now.';
  }
  session = answer;
  sessionReadAtMs = performance.now();
  askedAtEnd = false;
  renderHolder();
  renderBrowserStorage();
  renderClocks();
}

async function refresh() {
  const answer = await send({ method: 'POST', path: '/bff/refresh' });
  showResult('POST /bff/refresh', answer);
  if (answer.ok) acceptSession(answer.json);
  else await loadSession();
  if (isLoggedIn()) await showOwnClaims();
}

/** The end of the session took nothing from this browser but its meaning: this hands the ticket back. */
async function goOnAsGuest() {
  await send({ method: 'POST', path: '/bff/logout' });
  await loadSession();
  await Promise.all([showCatalog(), showOwnClaims()]);
}

async function logOut() {
  const answer = await send({ method: 'POST', path: '/bff/logout' });
  if (!answer.ok) {
    showResult('POST /bff/logout', answer);
    return;
  }
  // The provider has a session of its own; going there ends it too and comes back.
  window.location.assign(answer.json?.endSessionUrl ?? '/');
}

async function makeCall(call) {
  const answer = await send(call);
  // The call may have refreshed the tokens, or found the session ended. Read first, so that the result knows it.
  await loadSession();
  showResult(`${call.method ?? 'GET'} ${call.path}`, answer);
  if (call.showsClaims && answer.ok) renderClaims(answer.json);
  if (call.changesCatalog && answer.ok) await showCatalog();
}

/** What an API learns about whoever uses this page: a user, or only the application. */
async function showOwnClaims() {
  const path = isLoggedIn() ? '/api/orders/me' : '/api/catalog/me';
  const answer = await send({ path });
  if (answer.ok) renderClaims(answer.json);
  else if (isLoggedIn()) showResult(`GET ${path}`, answer);
}

function renderHolder() {
  const { user } = session;
  const authenticated = isLoggedIn();
  page('user').textContent = authenticated
    ? `${user.name ?? user.sub} (${user.preferred_username ?? user.sub})`
    : 'Nobody is logged in';
  const roles = authenticated ? (user.roles ?? []) : [];
  page('roles').replaceChildren(...(authenticated && roles.length === 0 ? ['no role'] : roles).map(buildChip));
  page('ticket-number').textContent = `No. ${authenticated ? String(session.session.createdAt).slice(-4) : '----'}`;
  page('login').hidden = authenticated;
  page('refresh').hidden = !authenticated;
  page('logout').hidden = !authenticated;
  page('clocks').hidden = !authenticated;
  renderLoginLinks();
}

/** A login comes back to where it began, with the part after # that no server ever sees on its own. */
function renderLoginLinks() {
  const { pathname, search, hash } = window.location;
  const returnTo = encodeURIComponent(pathname + search + hash);
  for (const link of [page('login'), page('result-login-link'), page('catalog-login')]) {
    link.href = `${session?.loginUrl ?? '/bff/login'}?return_to=${returnTo}`;
  }
}

function renderBrowserStorage() {
  page('cookies').textContent = document.cookie || '(empty)';
  page('local-storage').textContent = describeStorage(window.localStorage);
  page('session-storage').textContent = describeStorage(window.sessionStorage);
}

function renderClaims({ answeredBy, claims, receivedHeaders }) {
  const whose = claims.sub === claims.client_id ? 'application’s' : 'user’s';
  page('claims-note').textContent =
    `The claims of the ${whose} token that Cloakroom attached for the ${answeredBy}. The token itself stays there.`;
  // What decides comes first.
  const { sub, aud, roles, scope, ...others } = claims;
  page('claims').textContent = JSON.stringify(
    { claims: { sub, aud, roles, scope, ...others }, receivedHeaders },
    null,
    2,
  );
}

function renderClocks() {
  if (!isLoggedIn()) return;
  const elapsed = Math.floor((performance.now() - sessionReadAtMs) / 1000);
  const { expiresInSeconds, idleExpiresInSeconds } = session.session;
  const left = Math.min(expiresInSeconds, idleExpiresInSeconds ?? expiresInSeconds) - elapsed;
  page('session-expiry').textContent =
    left > 0 ? `${formatSeconds(left)} when idle, ${formatSeconds(expiresInSeconds - elapsed)} at most` : 'ended';
  const tokenLeft = (session.token?.expiresInSeconds ?? 0) - elapsed;
  page('token-expiry').textContent =
    tokenLeft > 0 ? `${formatSeconds(tokenLeft)}, then renewed` : 'expired: the next call renews it';
  if (left <= 0 && !askedAtEnd) {
    askedAtEnd = true;
    void loadSession();
  }
}

function showResult(request, answer) {
  const { status, ok, text, json, answeredBy } = answer;
  page('result').dataset.kind = ok ? 'good' : 'refused';
  page('result-status').textContent = status === 0 ? 'no answer' : String(status);
  page('result-request').textContent = request;
  page('result-source').textContent = `answered by ${answeredBy}`;
  page('result-source').dataset.source = answeredBy === 'Cloakroom' ? 'cloakroom' : 'api';
  page('result-body').textContent = json === undefined ? text : JSON.stringify(json, null, 2);
  page('result-login').hidden = isLoggedIn() || json?.loginUrl === undefined;
}

function buildCalls() {
  const groups = CALL_GROUPS.map(({ title, calls }) => {
    const group = document.createElement('div');
    const heading = document.createElement('h3');
    heading.textContent = title;
    group.append(heading, ...calls.map((call) => buildCallButton(call, () => makeCall(call))));
    return group;
  });
  page('calls').append(...groups);
  groups[1]?.append(buildEventsButton());
}

function buildCallButton({ id, label, needs }, onClick) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'call';
  button.dataset.testid = id;
  const note = document.createElement('small');
  note.textContent = needs;
  button.append(label, note);
  button.addEventListener('click', onClick);
  return button;
}

/** Server-sent events pass through Cloakroom as they come; they stop when the session does. */
function buildEventsButton() {
  const path = '/api/catalog/events';
  let source;
  const stop = () => {
    source?.close();
    source = undefined;
  };
  return buildCallButton({ id: 'call-events', label: 'Event stream on/off', needs: 'guests too' }, () => {
    if (source) return stop();
    source = new EventSource(path);
    source.addEventListener('tick', ({ data }) => {
      showResult(`GET ${path}`, {
        status: 200,
        ok: true,
        text: data,
        json: JSON.parse(data),
        answeredBy: 'catalog API',
      });
    });
    source.addEventListener('error', () => {
      stop();
      showResult(`GET ${path}`, {
        status: 0,
        ok: false,
        text: 'The stream was refused or has ended.',
        answeredBy: 'Cloakroom',
      });
    });
  });
}

function buildChip(text) {
  const chip = document.createElement('span');
  chip.textContent = text;
  return chip;
}

function describeStorage(storage) {
  return Object.keys(storage).join(', ') || '(empty)';
}

function formatSeconds(total) {
  const pad = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(total % 60)}` : `${minutes}:${pad(total % 60)}`;
}
