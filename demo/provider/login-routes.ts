import type { Context, Middleware } from 'koa';
import { errors, type default as Provider } from 'oidc-provider';
import { readForm } from './form.ts';
import { PAGE_HEADERS, STYLE_SHEET } from './html.ts';
import { buildLoginPage, buildNoticePage, buildRegisterPage, REGISTRATION_ERRORS } from './pages.ts';
import type { Users } from './users.ts';

/** The pages between an authorization request and its response: log in, or register and be logged in. */
export function loginRoutes(provider: Provider, users: Users, applicationUrl: string): Middleware {
  const ownOrigin = new URL(provider.issuer).origin;

  return async (ctx, next) => {
    if (ctx.path === '/provider.css' && ctx.method === 'GET') {
      ctx.type = 'css';
      ctx.body = STYLE_SHEET;
      return;
    }
    if (ctx.path === '/register') return register(ctx, undefined);
    const [, uid, page] = /^\/interaction\/([\w-]{1,64})(\/register)?$/.exec(ctx.path) ?? [];
    if (uid === undefined) return next();
    try {
      const interaction = await provider.interactionDetails(ctx.req, ctx.res);
      if (interaction.uid !== uid) throw new errors.SessionNotFound('another login was started in this browser');
      if (interaction.prompt.name === 'consent') return await finish(ctx, { consent: {} });
      if (page) return await register(ctx, uid);
      return await logIn(ctx, uid, loginHint(interaction.params));
    } catch (error) {
      if (!(error instanceof errors.SessionNotFound)) throw error;
      const text = 'This login page is no longer valid: it was finished, is too old, or belongs to another browser.';
      sendPage(
        ctx,
        400,
        buildNoticePage('Start again', text, { url: applicationUrl, text: 'Back to the application' }),
      );
    }
  };

  async function logIn(ctx: Context, uid: string, hint: string | undefined): Promise<void> {
    const action = `/interaction/${uid}`;
    const registerUrl = `${action}/register`;
    if (ctx.method !== 'POST') return sendPage(ctx, 200, buildLoginPage({ action, registerUrl, username: hint }));
    const form = await readForm(ctx, ownOrigin);
    if (!form.ok) return refuseForm(ctx, form.status);
    const { username = '', password = '' } = form.fields;
    const user = await users.authenticate(username, password);
    if (user) return finish(ctx, { login: { accountId: user.sub, amr: ['pwd'] } });
    const error = 'Wrong username or password. Try again.';
    return sendPage(ctx, 401, buildLoginPage({ action, registerUrl, username, error }));
  }

  /** Inside an interaction a new account is logged in at once; without one there is nothing to continue. */
  async function register(ctx: Context, uid: string | undefined): Promise<void> {
    const action = uid === undefined ? '/register' : `/interaction/${uid}/register`;
    const loginUrl = uid === undefined ? undefined : `/interaction/${uid}`;
    if (ctx.method !== 'POST') return sendPage(ctx, 200, buildRegisterPage({ action, loginUrl }));
    const form = await readForm(ctx, ownOrigin);
    if (!form.ok) return refuseForm(ctx, form.status);
    const { username = '', password = '' } = form.fields;
    const registration = await users.register(username, password);
    if (!registration.ok) {
      const error = REGISTRATION_ERRORS[registration.reason];
      return sendPage(ctx, 422, buildRegisterPage({ action, loginUrl, username, error }));
    }
    if (uid !== undefined) return finish(ctx, { login: { accountId: registration.user.sub, amr: ['pwd'] } });
    const text = `The account ${username} is ready. It has no role yet.`;
    sendPage(ctx, 201, buildNoticePage('Account created', text, { url: applicationUrl, text: 'Go and log in' }));
  }

  async function finish(ctx: Context, result: Parameters<Provider['interactionResult']>[2]): Promise<void> {
    const returnTo = await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
    ctx.status = 303;
    ctx.redirect(returnTo);
  }
}

export function sendPage(ctx: Context, status: number, page: string): void {
  ctx.set(PAGE_HEADERS);
  ctx.type = 'html';
  ctx.status = status;
  ctx.body = page;
}

export function refuseForm(ctx: Context, status: number): void {
  const text = 'This form was not sent by a page of this provider. Open the page again and send it from there.';
  sendPage(ctx, status, buildNoticePage('Refused', text));
}

function loginHint(params: { login_hint?: unknown }): string | undefined {
  return typeof params.login_hint === 'string' ? params.login_hint : undefined;
}
