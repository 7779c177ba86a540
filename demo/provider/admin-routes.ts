import type { Context, Middleware } from 'koa';
import type Provider from 'oidc-provider';
import { type FormFields, readForm } from './form.ts';
import { refuseForm, sendPage } from './login-routes.ts';
import { buildAdminPage, buildLoginPage, buildNoticePage } from './pages.ts';
import { isRole, type User, type Users } from './users.ts';

/** `/admin`: who is there, and who may do what. Only for an admin who is logged in at the provider itself. */
export function adminRoutes(provider: Provider, users: Users): Middleware {
  const ownOrigin = new URL(provider.issuer).origin;

  return async (ctx, next) => {
    if (ctx.path === '/admin/login' && ctx.method === 'POST') return logIn(ctx);
    if (ctx.path !== '/admin' && ctx.path !== '/admin/roles') return next();
    const user = await currentUser(ctx);
    if (!user) return sendPage(ctx, 401, buildLoginPage({ action: '/admin/login' }));
    if (!user.roles.includes('admin')) {
      const text = `You are logged in as ${user.username}, who is no admin. Log out here, then log in as alice.`;
      return sendPage(ctx, 403, buildNoticePage('Admins only', text, { url: '/session/end', text: 'Log out' }));
    }
    if (ctx.method === 'GET') return sendPage(ctx, 200, buildAdminPage(users.list(), undefined));
    if (ctx.path !== '/admin/roles' || ctx.method !== 'POST') return next();
    const form = await readForm(ctx, ownOrigin);
    if (!form.ok) return refuseForm(ctx, form.status);
    const outcome = changeRole(users, user, form.fields);
    return sendPage(ctx, outcome.isError ? 422 : 200, buildAdminPage(users.list(), outcome));
  };

  async function currentUser(ctx: Context): Promise<User | undefined> {
    const { accountId } = await provider.Session.get(ctx);
    return accountId === undefined ? undefined : users.get(accountId);
  }

  /** A login without an application: only the provider's own session, under the same cookie as any other login. */
  async function logIn(ctx: Context): Promise<void> {
    const form = await readForm(ctx, ownOrigin);
    if (!form.ok) return refuseForm(ctx, form.status);
    const { username = '', password = '' } = form.fields;
    const user = await users.authenticate(username, password);
    const error = 'Wrong username or password. Try again.';
    if (!user) return sendPage(ctx, 401, buildLoginPage({ action: '/admin/login', username, error }));
    const session = await provider.Session.get(ctx);
    // Someone else's session is never turned into this user's: its applications would go on under a new name.
    if (session.accountId === undefined) {
      // A new id at login, so that an id planted before it is worth nothing (session fixation).
      session.resetIdentifier();
      session.loginAccount({ accountId: user.sub, amr: ['pwd'] });
      ctx.cookies.set(provider.cookieName('session'), session.jti, { httpOnly: true, sameSite: 'lax', signed: true });
      await session.save(ADMIN_SESSION_SECONDS);
    }
    ctx.status = 303;
    ctx.redirect('/admin');
  }
}

const ADMIN_SESSION_SECONDS = 60 * 60;

function changeRole(users: Users, admin: User, fields: FormFields): { text: string; isError: boolean } {
  const { username = '', role = '', action } = fields;
  const user = users.get(username);
  if (!user || !isRole(role) || (action !== 'add' && action !== 'remove')) {
    return { text: 'Unknown user, role or action. Open the page again.', isError: true };
  }
  if (user.username === admin.username && role === 'admin' && action === 'remove') {
    return { text: 'You cannot take your own admin role: nobody could give it back.', isError: true };
  }
  const others = user.roles.filter((held) => held !== role);
  users.setRoles(username, action === 'add' ? [...others, role] : others);
  const text =
    action === 'add' ? `${username} now has the role ${role}.` : `${username} no longer has the role ${role}.`;
  return { text, isError: false };
}
