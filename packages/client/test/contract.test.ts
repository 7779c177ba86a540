import { describe, expect, expectTypeOf, it } from 'vitest';
import type { z } from 'zod';
import type * as shapes from '../../../src/endpoints/shapes.ts';
import { problemTypes } from '../../../src/problems/errors.ts';
import * as client from '../src/client.ts';

describe('the contract with the server', () => {
  it('has every error code of it, and no other', () => {
    expect(Object.keys(client.problemStatuses)).toEqual(problemTypes.map((Type) => new Type().code));
  });

  it('has the status of each', () => {
    expect(client.problemStatuses.BFF_SESSION_REQUIRED).toBe(401);
    expect(Object.values(client.problemStatuses)).toEqual(problemTypes.map((Type) => new Type().statusCode));
  });

  it('has the shapes that the endpoints answer', () => {
    expectTypeOf<client.Authenticated>().toEqualTypeOf<z.infer<typeof shapes.authenticatedShape>>();
    expectTypeOf<client.Anonymous>().toEqualTypeOf<z.infer<typeof shapes.anonymousShape>>();
    expectTypeOf<client.Logout>().toEqualTypeOf<z.infer<typeof shapes.logoutShape>>();
    expectTypeOf<client.Sessions>().toEqualTypeOf<z.infer<typeof shapes.sessionsShape>>();
    expectTypeOf<client.Problem>().toEqualTypeOf<z.infer<typeof shapes.problemShape>>();
    expectTypeOf<client.Ended>().toEqualTypeOf<z.infer<typeof shapes.endedShape>>();
  });
});
