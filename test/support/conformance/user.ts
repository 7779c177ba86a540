/** The suite's only user. */
export const subject = 'user-subject-1234531';

const claims: Record<string, Record<string, unknown>> = {
  profile: {
    name: 'Demo T. User',
    given_name: 'Demo',
    family_name: 'User',
    preferred_username: 'd.tu',
    locale: 'en-US',
  },
  email: { email: 'user@example.com', email_verified: false },
  phone: { phone_number: '+1 555 5550000', phone_number_verified: false },
  address: { address: { locality: 'Hollywood', region: 'CA', country: 'USA' } },
};

/** What UserInfo says for these scopes (Core §5.4). */
export function claimsOfScope(scope: string): Record<string, unknown> {
  return Object.assign({ sub: subject }, ...scope.split(' ').map((each) => claims[each]));
}
