# One image for every role: `docker run rookery run --role edge --config /etc/rookery/rookery.yaml`.
#
# The source runs as it is (type stripping), so there is nothing to build. The file system may be read-only: a process of a
# cluster keeps nothing but, where no tls.cert is given, the certificate that it makes in `data`.
FROM node:24-trixie-slim AS dependencies
WORKDIR /rookery
COPY package.json package-lock.json ./
# uWebSockets.js comes with its binaries for every system and Node there is: 110 MB, of which 5 are used here.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \
 && find node_modules/uWebSockets.js -name 'uws_*.node' ! -name "uws_linux_*_$(node -p process.versions.modules).node" -delete

FROM node:24-trixie-slim
WORKDIR /rookery
ENV NODE_ENV=production ROOKERY_DATA=/data
COPY --from=dependencies /rookery/node_modules node_modules
COPY package.json LICENSE* ./
COPY bin bin
COPY scripts/node.sh scripts/node.sh
COPY services services
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
VOLUME /data
EXPOSE 5222 5223 5280 5290 9090
# Where metrics.port is another, ROOKERY_METRICS_PORT says so to both.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.ROOKERY_METRICS_PORT ?? 9090}/ready`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["bin/rookery"]
CMD ["run"]
