import type { ErrorOut, KoaContextWithOIDC } from 'oidc-provider';
import { buildPage, html, PAGE_HEADERS, type SafeHtml, trustedMarkup } from './html.ts';
import { type Registration, ROLES, type User } from './users.ts';

/** Login form of an authorization request, or of the admin page when `registerUrl` is left out. */
export function buildLoginPage(form: {
  action: string;
  username?: string | undefined;
  error?: string | undefined;
  registerUrl?: string | undefined;
}): string {
  const register = html`<p>New here? <a href="${form.registerUrl}">Register</a></p>`;
  return buildPage(
    'Log in',
    html`${buildError(form.error)}
<form method="post" action="${form.action}">
<label for="username">Username</label>
<input type="text" id="username" name="username" value="${form.username}" autocomplete="username" autocapitalize="none" required autofocus>
<label for="password">Password</label>
<input type="password" id="password" name="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>
${form.registerUrl ? register : undefined}
<p class="hint">Demo users: alice (admin, clerk), bob (clerk), carol (viewer), dave (no role). The password is the name.</p>`,
  );
}

export function buildRegisterPage(form: {
  action: string;
  username?: string | undefined;
  error?: string | undefined;
  loginUrl?: string | undefined;
}): string {
  const login = html`<p>Have an account? <a href="${form.loginUrl}">Log in</a></p>`;
  return buildPage(
    'Register',
    html`${buildError(form.error)}
<form method="post" action="${form.action}">
<label for="username">Username</label>
<input type="text" id="username" name="username" value="${form.username}" autocomplete="username" autocapitalize="none" required autofocus>
<label for="password">Password, at least 8 characters</label>
<input type="password" id="password" name="password" autocomplete="new-password" required>
<button type="submit">Create account</button>
</form>
${form.loginUrl ? login : undefined}
<p class="hint">A new account has no role; alice can give it one on the admin page. A restart forgets it.</p>`,
  );
}

export const REGISTRATION_ERRORS: Record<Extract<Registration, { ok: false }>['reason'], string> = {
  'username-taken': 'This username is taken. Choose another one.',
  'username-invalid': 'A username is 2 to 31 lower-case letters, digits, - or _, and starts with a letter.',
  'password-too-short': 'The password needs at least 8 characters.',
};

export function buildAdminPage(
  users: readonly User[],
  message: { text: string; isError: boolean } | undefined,
): string {
  const note = message && html`<p class="message ${message.isError ? 'error' : ''}" role="status">${message.text}</p>`;
  return buildPage(
    'Users and roles',
    html`${note}
<table>
<thead><tr><th scope="col">User</th><th scope="col">Roles</th><th scope="col">Change</th></tr></thead>
<tbody>${users.map(buildUserRow)}</tbody>
</table>
<p class="hint">A change is in the next access token: log in again, or refresh.</p>
<p><a href="/session/end">Log out</a></p>`,
  );
}

export function buildNoticePage(title: string, text: string, link?: { url: string; text: string }): string {
  const further = link && html`<p><a href="${link.url}">${link.text}</a></p>`;
  return buildPage(title, html`<p>${text}</p>${further}`);
}

/** oidc-provider hands in its own form, with its anti-forgery field; the buttons belong to it by `form=`. */
export function renderLogoutPage(ctx: KoaContextWithOIDC, form: string): void {
  const application = ctx.oidc.client?.clientName ?? 'an application';
  sendPage(
    ctx,
    buildPage(
      'Log out?',
      html`<p>You came from ${application}. Log out of this provider and of every application you entered with it?</p>
${trustedMarkup(form)}
<p><button type="submit" form="op.logoutForm" name="logout" value="yes" autofocus>Yes, log me out</button>
<button type="submit" form="op.logoutForm" class="quiet">No, stay logged in</button></p>`,
    ),
  );
}

export function renderLoggedOutPage(ctx: KoaContextWithOIDC): void {
  sendPage(ctx, buildNoticePage('Logged out', 'You are logged out of this provider.'));
}

export function renderErrorPage(ctx: KoaContextWithOIDC, out: ErrorOut): void {
  const text = `${out.error}${out.error_description ? `: ${out.error_description}` : ''}`;
  sendPage(ctx, buildNoticePage('This did not work', text));
}

function sendPage(ctx: KoaContextWithOIDC, page: string): void {
  ctx.set(PAGE_HEADERS);
  ctx.type = 'html';
  ctx.body = page;
}

function buildError(error: string | undefined): SafeHtml | undefined {
  return error === undefined ? undefined : html`<p class="message error" role="alert">${error}</p>`;
}

function buildUserRow(user: User): SafeHtml {
  const forms = ROLES.map((role) => {
    const action = user.roles.includes(role) ? 'remove' : 'add';
    return html`<form method="post" action="/admin/roles">
<input type="hidden" name="username" value="${user.username}"><input type="hidden" name="role" value="${role}">
<button type="submit" name="action" value="${action}" class="quiet">${action} ${role}</button></form>`;
  });
  return html`<tr><th scope="row">${user.username}</th><td>${user.roles.join(', ') || 'none'}</td><td>${forms}</td></tr>`;
}
