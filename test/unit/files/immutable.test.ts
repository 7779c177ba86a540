import { expect, it } from 'vitest';
import { isImmutable, listedFiles } from '../../../src/files/immutable.ts';

const nothing = new Set<string>();

it.each([
  'index-BxYzAbCd.js', // Vite, without a single digit
  'assets/index-B-x_zA1d.css',
  'assets/index-DYqMGsAp.js.map',
  'assets/logo-Cn3x_0aQ.svg',
  'assets/inter-B2xYz1aB.woff2',
  'assets/vendor-B2xyz1aB.css',
  'main.8f3a2b1c.chunk.js', // webpack, Create React App
  'static/js/787.28cb0dcd.chunk.js',
  'static/media/inter.1f4ac7a1d7b5f3b7.woff2',
  'main-5QZ7XKQF.js', // Angular, esbuild
  'styles-INURTSOX.css',
  'vendor-d41d8cd98f00b204e9800998ecf8427e.js',
  '1c2d3e4f5a6b7c8d9e0f.png', // webpack's assets
  'app.4f9c2d1a.js',
  '_next/static/chunks/framework-64ad27b21261a9ce.js',
  '_next/static/aBcDeFgHiJkLmNoPqRsTu/_buildManifest.js',
  '_app/immutable/entry/start.js',
  '_nuxt/entry.js',
  '_nuxt/builds/meta/0f6a1b.json',
])('W57 %s never changes', (name) => {
  expect(isImmutable(name, nothing)).toBe(true);
});

it.each([
  'apple-touch-icon-180x180.png',
  'service-worker-v2.js',
  'runtime-config-v1.js',
  'runtime-config-8f3a2b1c.js',
  'index.html',
  'assets/index-BxYzAbCd.html',
  'manifest.webmanifest',
  'sw.js',
  'sw-4f9c2d1a.js',
  'service-worker.8f3a2b1c.js',
  'serviceWorker-BxYzAbC1.js',
  'workbox-4f9c2d1a.js',
  'ngsw-worker.js',
  'firebase-messaging-sw.js',
  'OneSignalSDKWorker-8f3a2b1c.js',
  'precache-manifest.8f3a2b1c9d.js',
  '_app/immutable/sw.js',
  '_nuxt/builds/latest.json',
  'assets/photo-1024x768.png',
  'assets/report-20240131.pdf',
  'assets/report-2024-01-31.pdf',
  'assets/logo-Facebook.svg',
  'assets/icon-HomePage.svg',
  'assets/background-mountain.jpg',
  'assets/chapter-chapter2.png',
  'assets/vendor-react-18.js',
  'assets/my-theme-v2.css',
  'assets/settings-frontend.js',
  'LOGO-COMPANYX.png',
  'jquery-3.7.1.min.js',
  'bootstrap.bundle.min.js',
  // Names of people and products have capitals in them, and cameras and standards have digits.
  'logo-LinkedIn.svg',
  'assets/logo-GitHub.svg',
  'assets/logo-YouTube.png',
  'assets/pay-PayPal.svg',
  'assets/logo-OpenAI.svg',
  'assets/logo-iPadMini.png',
  'assets/sdk-LinkedIn.js',
  'static/media/MyFont-BoldMT.ttf',
  'assets/photo-DSC01234.jpg',
  'assets/cert-ISO27001.pdf',
  'assets/report-Q42024.pdf',
  'assets/report-2024q1aa.pdf',
  'plan-3rdfloor.jpg',
  'plan-2ndFloor.png',
  'assets/config.json',
  'data.json',
  'robots.txt',
  'constructor',
])('W57 %s may change', (name) => {
  expect(isImmutable(name, nothing)).toBe(false);
});

it('W57 a short hash counts where the bundler says that the file is its own', () => {
  const listed = new Set(
    listedFiles(JSON.stringify({ 'src/main.ts': { file: 'js/main-b4Xz9a.js', src: 'src/main.ts' } })),
  );
  expect(listed).toEqual(new Set(['js/main-b4Xz9a.js']));
  expect([isImmutable('js/main-b4Xz9a.js', listed), isImmutable('js/main-b4Xz9a.js', nothing)]).toEqual([true, false]);
  expect(isImmutable('js/sw-b4Xz9a.js', new Set(['js/sw-b4Xz9a.js']))).toBe(false);
});

it.each(['', '{', 'null', '7', '[null]'])('W57 a manifest that is none names nothing (%j)', (text) => {
  expect(listedFiles(text)).toEqual([]);
});
