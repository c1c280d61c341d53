"""`ChartRenderer` with vl-convert: Vega-Lite in an embedded JavaScript engine, without a browser or a network."""

from collections.abc import Mapping
from typing import Any

from shared.errors import ChartInvalidError

# Of the JavaScript libraries that are built in; another one may draw the same chart differently.
VEGA_LITE = "6.4"


class VegaCharts:
    """Draws specifications of shared/chart_templates.py. Thread-safe: the engine takes one after the other."""

    def png(self, spec: Mapping[str, Any], scale: float) -> bytes:
        """Return a PNG with `scale` pixels for each of the specification's."""
        import vl_convert

        try:
            # An empty list allows no address; the templates name none anyway.
            return vl_convert.vegalite_to_png(dict(spec), vl_version=VEGA_LITE, scale=scale, allowed_base_urls=[])
        except ValueError as error:
            raise ChartInvalidError("The chart cannot be drawn.") from error

    def svg(self, spec: Mapping[str, Any]) -> bytes:
        """Return an SVG in UTF-8."""
        import vl_convert

        try:
            return vl_convert.vegalite_to_svg(dict(spec), vl_version=VEGA_LITE, allowed_base_urls=[]).encode()
        except ValueError as error:
            raise ChartInvalidError("The chart cannot be drawn.") from error
