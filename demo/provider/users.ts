import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** The roles the admin page offers. The demo APIs know what each of them may do. */
export const ROLES = ['admin', 'clerk', 'viewer'] as const;
export type Role = (typeof ROLES)[number];

/** One person of the demo. `sub` is the username, so that a log line or a claim names somebody you know. */
export interface User {
  readonly sub: string;
  readonly username: string;
  readonly name: string;
  readonly email: string;
  readonly roles: readonly Role[];
}

export type Registration =
  | { ok: true; user: User }
  | { ok: false; reason: 'username-taken' | 'username-invalid' | 'password-too-short' };

export type Users = ReturnType<typeof createUsers>;

/**
 * The people of the demo, in memory: a restart forgets everybody who registered.
 * alice, bob, carol and dave log in with their own name as the password, which is only ever right in a demo.
 */
export function createUsers() {
  const users = new Map<string, User>();
  const passwords = new Map<string, StoredPassword>();

  async function add(user: User, password: string): Promise<void> {
    // Claimed before the slow hash, so that two registrations of one name cannot both pass the check in register().
    users.set(user.username, user);
    passwords.set(user.username, await hashPassword(password));
  }

  return {
    async addDemoUsers(): Promise<void> {
      const people: [string, Role[]][] = [
        ['alice', ['admin', 'clerk']],
        ['bob', ['clerk']],
        ['carol', ['viewer']],
        ['dave', []],
      ];
      await Promise.all(people.map(([username, roles]) => add(newUser(username, roles), username)));
    },

    async register(username: string, password: string): Promise<Registration> {
      if (!USERNAME.test(username)) return { ok: false, reason: 'username-invalid' };
      if (users.has(username)) return { ok: false, reason: 'username-taken' };
      if (password.length < MIN_PASSWORD_LENGTH) return { ok: false, reason: 'password-too-short' };
      const user = newUser(username, []);
      await add(user, password);
      return { ok: true, user };
    },

    /** The user whose password this is. An unknown name costs as much time as a wrong password. */
    async authenticate(username: string, password: string): Promise<User | undefined> {
      const matches = await passwordMatches(password, passwords.get(username) ?? NOBODYS_PASSWORD);
      return matches ? users.get(username) : undefined;
    },

    get: (username: string): User | undefined => users.get(username),

    list: (): User[] => [...users.values()],

    /** Replaces a user's roles. The next token issued for the user, also by a refresh, carries them. */
    setRoles(username: string, roles: Iterable<Role>): User | undefined {
      const user = users.get(username);
      if (!user) return undefined;
      const wanted = new Set(roles);
      const changed = { ...user, roles: ROLES.filter((role) => wanted.has(role)) };
      users.set(username, changed);
      return changed;
    },
  };
}

export function isRole(value: string): value is Role {
  return (ROLES as readonly string[]).includes(value);
}

/** NIST SP 800-63B asks for at least eight characters. The four demo users are exempt: they are no secret. */
const MIN_PASSWORD_LENGTH = 8;
const USERNAME = /^[a-z][a-z0-9_-]{1,30}$/;

function newUser(username: string, roles: readonly Role[]): User {
  const name = `${username.charAt(0).toUpperCase()}${username.slice(1)} Demo`;
  return { sub: username, username, name, email: `${username}@example.test`, roles };
}

interface StoredPassword {
  salt: Buffer;
  hash: Buffer;
}

const HASH_BYTES = 32;
/** Far below what a real provider uses: tests start this provider and log in hundreds of times. */
const SCRYPT = { N: 1024, r: 8, p: 1 };
const NOBODYS_PASSWORD: StoredPassword = { salt: Buffer.alloc(16), hash: Buffer.alloc(HASH_BYTES) };

async function hashPassword(password: string): Promise<StoredPassword> {
  const salt = randomBytes(16);
  return { salt, hash: await deriveHash(password, salt) };
}

async function passwordMatches(password: string, stored: StoredPassword): Promise<boolean> {
  return timingSafeEqual(await deriveHash(password, stored.salt), stored.hash);
}

function deriveHash(password: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, HASH_BYTES, SCRYPT, (error, hash) => (error ? reject(error) : resolve(hash)));
  });
}
