// OHIF's configuration for heavylift: put it in the place of the viewer's own app-config.js.
//
// Who embeds the viewer (in an iframe of the same origin) hands it the API's address and a function that gives a token:
//     window.heavylift = { root: 'https://…/v1/dicomweb', token: () => '…' };
// The token stays in memory: it is in no URL, no storage and no log, and a new one is used as soon as there is one.

(() => {
  const host = window.parent.heavylift ?? window.heavylift;
  const root = host.root;

  // Every request to the API carries the token, also those of the libraries inside; nobody else ever sees it.
  const { open, send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    this.toHeavylift = new URL(url, location.href).href.startsWith(`${root}/`);
    return open.call(this, method, url, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (this.toHeavylift) this.setRequestHeader('Authorization', `Bearer ${host.token()}`);
    return send.call(this, body);
  };
  const fetched = window.fetch;
  window.fetch = (input, init) => {
    const request = new Request(input, init);
    if (request.url.startsWith(`${root}/`)) request.headers.set('Authorization', `Bearer ${host.token()}`);
    return fetched(request);
  };

  window.config = {
    routerBasename: null,
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: true,
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: false,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    investigationalUseDialog: { option: 'never' },
    disableConfirmationPrompts: true,
    maxNumRequests: { interaction: 100, thumbnail: 16, prefetch: 16 },
    ...host.more,
    defaultDataSourceName: 'heavylift',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'heavylift',
        configuration: {
          friendlyName: 'heavylift',
          name: 'heavylift',
          qidoRoot: root,
          wadoRoot: root,
          wadoUriRoot: root,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          supportsReject: false,
          dicomUploadEnabled: false,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true },
        },
      },
    ],
  };
})();
