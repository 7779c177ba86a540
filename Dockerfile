# docker build -t cloakroom .            the product
# docker build -t demo --target demo .   the demo's OpenID provider and APIs (docker-compose.yml)
# Debian, not Alpine: the lockfile's native packages are built for glibc.

FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# What `npm ci` runs after the install.
COPY scripts/node-runtime.cjs scripts/
# The packages for browsers have no part in the product.
RUN npm ci --workspaces=false
COPY tsconfig.json ./
COPY src src
RUN npm run build

FROM build AS demo
COPY demo demo
USER node

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Optional packages are only the bundled Node for old machines. No package of the rest has an install script.
RUN npm ci --workspaces=false --omit=dev --omit=optional --ignore-scripts

FROM node:24-bookworm-slim
# Nothing installs packages in a running container.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn* /usr/local/bin/yarn*
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE ./
COPY --from=build /app/dist dist
# Owned by root, run as nobody in particular, and nothing is written: `docker run --read-only --cap-drop ALL`.
USER node
EXPOSE 8080
# Alive, not ready: a Redis that is down is no reason to restart Cloakroom. 9090 is the default of ops.port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9090/livez').then(({ ok }) => process.exit(ok ? 0 : 1))"]
CMD ["node", "dist/cli.js", "start", "--config", "/etc/cloakroom/config.yaml"]
