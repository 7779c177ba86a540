import { describe, expect, it } from 'vitest';
import { type ErrorPage, renderErrorPage } from '../../../src/problems/page.ts';

const plain: ErrorPage = { title: 'Title', message: 'Message', code: 'BFF_X', requestId: 'r-1', again: '/bff/login' };
const attacks = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", '&lt;b&gt;'];

describe.each(Object.keys(plain) as (keyof ErrorPage)[])('the error page with markup in its %s', (field) => {
  it.each(attacks)('T19 shows %s as text', (attack) => {
    const html = renderErrorPage({ ...plain, [field]: attack });
    expect(html).not.toContain(attack);
    // The same tags as the plain page has, with the same attributes.
    const skeleton = (text: string) => text.match(/<[^>]*>/g)?.map((tag) => tag.replace(/"[^"]*"/g, '""'));
    expect(skeleton(html)).toEqual(skeleton(renderErrorPage(plain)));
  });
});
